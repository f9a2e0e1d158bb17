"use strict";
(() => {
  const { clips, heads, classes, limits } = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 50;
  const at = (id) => document.getElementById(id);
  const hasText = clips.some((clip) => clip.text);
  const hasParts = clips.some((clip) => clip.parts);
  const said = (value) => (value === null ? "–" : typeof value === "string" ? value : value.toFixed(2));
  const columns = [
    { name: "clip", of: (clip) => clip.id },
    ...(hasText ? [{ name: "transcript", of: (clip) => clip.text, text: true }] : []),
    { name: "label", of: (clip) => clip.label },
    ...heads.map((head, k) => ({ name: head, of: (clip) => clip.heads[k] })),
    { name: "error", of: (clip) => clip.error },
    ...(hasParts
      ? ["text", "audio", "vision"].map((m, k) => ({ name: `part of ${m}`, of: (clip) => (clip.parts ? clip.parts[k] : null) }))
      : []),
  ];
  let order = columns.findIndex((column) => column.name === "error");
  let falling = true;
  let page = 0;
  let chosen = null;
  let shown = clips;
  const lower = clips.map((clip) => `${clip.id}\n${clip.text}`.toLowerCase());
  const number = new Map(clips.map((clip, k) => [clip, k]));

  const compare = (a, b) => {
    if (a === b) return 0;
    if (a === null) return 1;
    if (b === null) return -1;
    const less = typeof a === "string" ? a.localeCompare(b) : a - b;
    return falling ? -less : less;
  };

  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  const choose = (clip, jump) => {
    chosen = clip;
    if (jump) {
      if (!shown.includes(clip)) {
        at("search").value = "";
        at("filter").value = "";
        select();
      }
      page = Math.floor(shown.indexOf(clip) / PAGE);
    }
    draw();
    detail();
    if (jump) at("rows").querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  };

  const select = () => {
    const asked = at("search").value.trim().toLowerCase();
    const kind = at("filter").value;
    const { of } = columns[order];
    shown = clips.filter((clip, k) => (!asked || lower[k].includes(asked)) && (!kind || clip[kind]));
    shown.sort((a, b) => compare(of(a), of(b)) || number.get(a) - number.get(b));
    page = 0;
  };

  const draw = () => {
    at("heads").replaceChildren(
      ...columns.map((column, k) => {
        const head = element("th", undefined, { scope: "col", ...(column.text ? { class: "text" } : {}) });
        if (k === order) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const button = element("button", column.name + (k === order ? (falling ? " ▾" : " ▴") : ""), { type: "button" });
        button.addEventListener("click", () => {
          falling = k === order ? !falling : column.name !== "clip" && !column.text;
          order = k;
          select();
          draw();
          at("heads").children[k].firstChild.focus();
        });
        head.append(button);
        return head;
      }),
    );
    at("rows").replaceChildren(
      ...shown.slice(page * PAGE, (page + 1) * PAGE).map((clip) => {
        const row = element("tr", undefined, { tabindex: "0", "aria-selected": String(clip === chosen) });
        columns.forEach((column, k) => {
          const value = said(column.of(clip));
          row.append(k ? element("td", value, column.text ? { class: "text" } : {}) : element("th", value, { scope: "row" }));
        });
        row.addEventListener("click", () => choose(clip, false));
        row.addEventListener("keydown", (event) => {
          if (event.key !== "Enter") return;
          choose(clip, false);
          at("rows").querySelector('[aria-selected="true"]')?.focus();
        });
        return row;
      }),
    );
    const last = Math.min(shown.length, (page + 1) * PAGE);
    const range = shown.length > PAGE ? `${page * PAGE + 1} to ${last} of ` : "";
    at("found").textContent = `${range}${shown.length} clip${shown.length === 1 ? "" : "s"}`;
    at("back").disabled = page === 0;
    at("on").disabled = last >= shown.length;
    plot();
  };

  const detail = () => {
    const rows = [["label", chosen.label], ...heads.map((head, k) => [head, chosen.heads[k]]), ["error", chosen.error]];
    const table = element("table");
    for (const [name, value] of rows) {
      const row = element("tr");
      row.append(element("th", name, { scope: "row" }), element("td", said(value)));
      table.append(row);
    }
    const parts = chosen.parts || [];
    const bound = Math.max(1e-9, ...parts.map(Math.abs));
    parts.forEach((part, k) => {
      const row = element("tr");
      const cell = element("td");
      const bar = element("span", undefined, { class: part < 0 ? "bar less" : "bar" });
      bar.style.width = `${(6 * Math.abs(part)) / bound}rem`;
      cell.append(bar, ` ${part < 0 ? "" : "+"}${said(part)}`);
      row.append(element("th", `part of ${["text", "audio", "vision"][k]}`, { scope: "row" }), cell);
      table.append(row);
    });
    const made = [element("h2", chosen.id, { style: "margin-top: 0; overflow-wrap: anywhere" })];
    if (chosen.text) made.push(element("p", chosen.text, { class: "said" }));
    if (chosen.media) made.push(element("video", undefined, { src: chosen.media, controls: "", preload: "metadata" }));
    at("clip").replaceChildren(...made, table);
  };

  const canvas = at("points");
  let places = [];
  const plot = () => {
    const kind = at("kind").value;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const of = kind === "map" ? (clip) => clip.map : (clip) => (clip.heads[0] === null ? null : [clip.label, clip.heads[0]]);
    const points = clips.map((clip) => (classes && kind !== "map" ? null : of(clip)));
    const there = points.filter(Boolean);
    if (!there.length) return;
    const edge = (k) => {
      let values = there.map((point) => point[k]);
      if (kind !== "map") values = values.concat(limits);
      const low = values.reduce((a, b) => Math.min(a, b));
      const high = values.reduce((a, b) => Math.max(a, b));
      const more = 0.04 * (high - low || 1);
      return [low - more, high + more];
    };
    const [left, right] = edge(0);
    const [bottom, top] = edge(1);
    const x = (value) => ((value - left) / (right - left)) * width;
    const y = (value) => height - ((value - bottom) / (top - bottom)) * height;
    if (kind !== "map") {
      pen.strokeStyle = style.getPropertyValue("--line");
      pen.beginPath();
      pen.moveTo(x(limits[0]), y(limits[0]));
      pen.lineTo(x(limits[1]), y(limits[1]));
      pen.stroke();
    }
    const visible = new Set(shown);
    places = points.map((point) => point && [x(point[0]), y(point[1])]);
    places.forEach((place, k) => {
      if (!place || clips[k] === chosen) return;
      pen.globalAlpha = visible.has(clips[k]) ? 0.6 : 0.08;
      pen.fillStyle = style.getPropertyValue(clips[k].wrong ? "--two" : "--one");
      pen.beginPath();
      pen.arc(...place, 3.5, 0, 7);
      pen.fill();
    });
    const own = chosen && places[number.get(chosen)];
    pen.globalAlpha = 1;
    if (own) {
      pen.fillStyle = style.getPropertyValue(chosen.wrong ? "--two" : "--one");
      pen.strokeStyle = style.getPropertyValue("--ink");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(...own, 7, 0, 7);
      pen.fill();
      pen.stroke();
    }
  };

  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    let best = null;
    let nearest = 20;
    places.forEach((place, k) => {
      if (!place) return;
      const far = Math.hypot(place[0] - (event.clientX - box.left), place[1] - (event.clientY - box.top));
      if (far < nearest) [nearest, best] = [far, clips[k]];
    });
    if (best) choose(best, true);
  });
  at("search").addEventListener("input", () => { select(); draw(); });
  at("filter").addEventListener("change", () => { select(); draw(); });
  at("kind").addEventListener("change", plot);
  at("back").addEventListener("click", () => { page -= 1; draw(); });
  at("on").addEventListener("click", () => { page += 1; draw(); });
  window.addEventListener("resize", plot);
  select();
  draw();
})();
