"use strict";
(() => {
  const NAMES = { M: "the clip", T: "words", A: "sound", V: "face", text: "words", audio: "sound", vision: "face" };
  const at = (id) => document.getElementById(id);
  const player = at("player");
  let spec = { label_range: [-1, 1], limits: {}, media: true };
  let answer = null, address = null, request = null, recorder = null;

  /* All that comes from the server or a file is shown as text, never as markup. */
  function element(tag, attributes, ...children) {
    const svg = ["svg", "path", "line", "rect", "circle", "text"].includes(tag);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const known = (value) => typeof value === "number" && Number.isFinite(value);
  const signed = (value) => !known(value) ? "–" : Math.abs(value) < 0.005 ? "0.00" : (value > 0 ? "+" : "") + value.toFixed(2);
  const name = (task) => NAMES[task] || task;
  const clock = (seconds) => Math.floor(seconds / 60) + ":" + String(Math.floor(seconds % 60)).padStart(2, "0");

  /* A moment of the clip: tenths of a second where it is short. */
  const moment = (seconds) => length() < 60 ? seconds.toFixed(1) + " s" : clock(seconds);

  function say(sentence, wrong) {
    at("status").textContent = sentence;
    at("status").className = wrong ? "wrong" : "";
  }

  function busy(what) {
    for (const id of ["file", "video", "sound"]) at(id).disabled = Boolean(what) || !spec.media;
    at("running").hidden = !what;
    at("stop").hidden = what !== "recording";
    at("cancel").hidden = what !== "scoring";
  }

  /* The clip in the player; what was there before is let go. */
  function show(file) {
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(file);
    player.srcObject = null;
    player.muted = false;
    player.controls = true;
    player.src = address;
    player.className = file.type.startsWith("audio/") ? "sound" : "";
    at("player-card").hidden = false;
    at("curve-box").hidden = at("result").hidden = true;
    answer = null;
  }

  async function send(file) {
    show(file);
    const most = spec.limits.body_bytes;
    if (most && file.size > most) {
      say("The file has " + (file.size / 2 ** 20).toFixed(1) + " MiB; at most " + (most / 2 ** 20).toFixed(0) + " are allowed.", true);
      return;
    }
    const form = new FormData();
    for (const id of ["window", "stride"]) if (at(id).value) form.append(id, at(id).value);
    form.append("file", file, file.name);
    request = new AbortController();
    busy("scoring");
    say("Scoring " + file.name + " …");
    try {
      const response = await fetch("/predict", { method: "POST", body: form, signal: request.signal });
      const content = await response.json();
      if (!response.ok) throw new Error(content.error || "The server refused the clip.");
      say("");
      render(content);
    } catch (error) {
      say(error.name === "AbortError" ? "Cancelled." : error instanceof TypeError ? "The server cannot be reached, or it refused the file's size." : error.message, error.name !== "AbortError");
    } finally {
      request = null;
      busy("");
    }
  }

  async function record(video) {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true, video });
    } catch (error) {
      say("The browser gives no " + (video ? "camera and microphone" : "microphone") + ": " + error.message, true);
      return;
    }
    const parts = [], began = Date.now();
    recorder = new MediaRecorder(stream);
    at("player-card").hidden = false;
    at("curve-box").hidden = at("result").hidden = true;
    player.className = video ? "" : "sound";
    player.controls = false;
    player.muted = true;
    player.srcObject = stream;
    player.play().catch(() => {});
    const ticking = setInterval(() => say("Recording, " + clock((Date.now() - began) / 1000)), 250);
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      clearInterval(ticking);
      stream.getTracks().forEach((track) => track.stop());
      const type = (recorder.mimeType || (video ? "video/webm" : "audio/webm")).split(";")[0];
      recorder = null;
      busy("");
      send(new File(parts, "recording." + type.split("/")[1], { type }));
    };
    recorder.start();
    busy("recording");
  }

  function key(title, value) {
    at("keys").append(element("div", { class: "key" }, element("dt", {}, title), element("dd", {}, value)));
  }

  function card(title, ...children) {
    at("parts").append(element("section", { class: "card" }, element("h2", {}, title), ...children));
  }

  /* A bar from 0 (or the range's lower end) to a value. */
  function bar(value, low, high) {
    const made = element("svg", { viewBox: "0 0 100 12", preserveAspectRatio: "none", height: "12", "aria-hidden": "true" });
    const place = (v) => 100 * (Math.min(high, Math.max(low, v)) - low) / (high - low || 1);
    const from = place(Math.max(low, Math.min(high, 0))), to = known(value) ? place(value) : from;
    made.append(element("rect", { class: "track", x: 0, y: 5, width: 100, height: 2 }));
    made.append(element("rect", { class: to < from ? "down" : "up", x: Math.min(from, to), y: 1, width: Math.max(0.5, Math.abs(to - from)), height: 10 }));
    return made;
  }

  /* Rows of [name, value, value as text, ...more], each with its bar. */
  function bars(rows, low, high) {
    const body = element("tbody");
    for (const [title, value, text] of rows) {
      body.append(element("tr", {}, element("th", {}, title), element("td", {}, text), element("td", { class: "bar" }, bar(value, low, high))));
    }
    return element("div", { class: "scroll" }, element("table", {}, body));
  }

  function table(heads, rows) {
    const head = element("tr", {}, ...heads.map((text) => element("th", {}, text)));
    const body = rows.map((row) => element("tr", {}, ...row.map((text, k) => element("td", k === row.length - 1 ? { class: "text" } : {}, text))));
    return element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
  }

  /* Rows of [name, change], each with a bar to the left or right of the middle. */
  function changes(rows) {
    const most = Math.max(...rows.map(([, value]) => Math.abs(value)));
    return bars(rows.map(([title, value]) => [title, value, signed(value)]), -most, most);
  }

  /* What the modalities add up to, and what moved the score by itself. */
  function why(content) {
    const parts = Object.entries(content.parts || {}).filter(([, value]) => known(value));
    if (parts.length) {
      const of = known(content.score) ? "the score" : "the probability of " + content.class;
      const start = known(content.nothing_known) ? "From " + signed(content.nothing_known) + ", " + of + " if nothing were known, the parts lead to what the model says." : "";
      card("Parts", changes(parts.map(([modality, value]) => [name(modality), value])), element("p", { class: "quiet" }, start));
    }
    const moved = (content.moved_by || []).filter((row) => known(row.effect));
    if (moved.length) card("Sub-features that moved it", changes(moved.map((row) => [name(row.modality) + (row.group ? ": " + row.group : ""), row.effect])));
    const said = (content.words || []).filter((row) => known(row.effect));
    said.sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
    if (said.length) card("Words that moved it", changes(said.slice(0, 8).map((row) => [row.word, row.effect])));
  }

  function render(content) {
    answer = content;
    const [low, high] = spec.label_range;
    at("keys").replaceChildren();
    at("parts").replaceChildren();
    if (known(content.score)) key("Score, " + low + " to " + high, signed(content.score));
    if (content.class) key("Class", content.class);
    if (known(content.duration)) key("Length", content.duration.toFixed(1) + " s");
    const scores = Object.entries(content.scores || {});
    if (known(content.score) || scores.length) {
      card("Score", bars([["M", content.score], ...scores].filter(([, v]) => known(v)).map(([t, v]) => [name(t), v, signed(v)]), low, high));
    }
    const shares = Object.entries(content.probabilities || {});
    if (shares.length) card("Probabilities", bars(shares.map(([c, p]) => [c, p, (100 * p).toFixed(1) + " %"]), 0, 1));
    const classes = Object.entries(content.classes || {});
    if (classes.length) card("Class by modality", table(["", "class"], classes.map(([t, c]) => [name(t), String(c)])));
    why(content);
    if (content.transcript) card("Transcript", element("p", { id: "transcript" }, content.transcript));
    if ((content.notes || []).length) card("Notes", element("ul", {}, ...content.notes.map((text) => element("li", {}, text))));
    const points = content.curve || [];
    if (points.length) {
      const heads = ["from", "to", "score", ...tasks().slice(1).map(name), "words"];
      const rows = points.map((p) => [moment(p.start), moment(p.end), signed(p.score), ...tasks().slice(1).map((t) => signed((p.scores || {})[t])), p.words || ""]);
      at("parts").append(element("details", { class: "card" }, element("summary", {}, "Curve as a table"), table(heads, rows)));
    }
    at("result").hidden = false;
    at("curve-box").hidden = !points.length;
    draw();
  }

  /* The clip's own score first, then the modalities that some point has. */
  function tasks() {
    const found = new Set(["M"]);
    for (const point of answer.curve || []) Object.keys(point.scores || {}).forEach((task) => task === "M" || found.add(task));
    return [...found];
  }

  const length = () => (known(answer.duration) && answer.duration) || Math.max(...answer.curve.map((p) => p.end)) || 1;

  function draw() {
    const box = at("curve");
    if (!answer || at("curve-box").hidden) return;
    const wide = Math.max(240, box.clientWidth), tall = 180, left = 30, right = 8, top = 8, bottom = 22;
    const values = answer.curve.flatMap((p) => [p.score, ...Object.values(p.scores || {})]).filter(known);
    const low = Math.min(spec.label_range[0], ...values), high = Math.max(spec.label_range[1], ...values);
    const x = (t) => left + (wide - left - right) * Math.min(1, Math.max(0, t / length()));
    const y = (v) => top + (tall - top - bottom) * (high - v) / (high - low || 1);
    const picture = element("svg", { viewBox: "0 0 " + wide + " " + tall });
    for (const v of new Set([low, 0, high])) {
      if (v < low || v > high) continue;
      picture.append(element("line", { class: "axis", x1: left, x2: wide - right, y1: y(v), y2: y(v) }));
      picture.append(element("text", { x: left - 4, y: y(v) + 4, "text-anchor": "end" }, String(Math.round(v * 100) / 100)));
    }
    for (const [t, anchor] of [[0, "start"], [length() / 2, "middle"], [length(), "end"]]) {
      picture.append(element("text", { x: x(t), y: tall - 4, "text-anchor": anchor }, moment(t)));
    }
    for (const task of tasks().reverse()) {
      const points = answer.curve.map((p) => [(p.start + p.end) / 2, task === "M" ? p.score : (p.scores || {})[task]]).filter(([, v]) => known(v));
      const path = points.map(([t, v], k) => (k ? "L" : "M") + x(t).toFixed(1) + " " + y(v).toFixed(1)).join("");
      if (points.length > 1) picture.append(element("path", { class: task, d: path }));
      if (task === "M" || points.length === 1) for (const [t, v] of points) picture.append(element("circle", { class: task, cx: x(t), cy: y(v), r: 4 }));
    }
    picture.append(element("line", { class: "now", x1: x(0), x2: x(0), y1: top, y2: tall - bottom }));
    box.replaceChildren(picture);
    at("legend").replaceChildren(...tasks().map((task) => element("span", { class: task }, name(task))));
    box.onclick = (event) => {
      const share = (event.clientX - box.getBoundingClientRect().left - left) / (wide - left - right);
      player.currentTime = Math.min(1, Math.max(0, share)) * length();
    };
    follow();
  }

  /* Where the player is, and what is said there. */
  function follow() {
    const line = document.querySelector("#curve .now");
    if (!answer || !line) return;
    const wide = document.querySelector("#curve svg").viewBox.baseVal.width, now = player.currentTime;
    const place = 30 + (wide - 38) * Math.min(1, now / length());
    line.setAttribute("x1", place);
    line.setAttribute("x2", place);
    const middle = (p) => Math.abs((p.start + p.end) / 2 - now);
    const point = answer.curve.reduce((best, p) => (middle(p) < middle(best) ? p : best));
    at("words").textContent = moment(point.start) + " to " + moment(point.end) + ": " + signed(point.score) + (point.words ? ", “" + point.words + "”" : "");
  }

  at("file").onchange = (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) send(file);
  };
  at("video").onclick = () => record(true);
  at("sound").onclick = () => record(false);
  at("stop").onclick = () => recorder && recorder.stop();
  at("cancel").onclick = () => request && request.abort();
  player.ontimeupdate = player.onseeked = follow;
  addEventListener("resize", draw);
  /* A file that is dropped beside the field would be opened in place of this page. */
  addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
  addEventListener("dragleave", () => at("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    at("drop").classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file && !request && !recorder && spec.media) send(file);
  });
  if (!navigator.mediaDevices || !window.MediaRecorder) at("video").hidden = at("sound").hidden = true;
  if (location.protocol.startsWith("http")) {
    fetch("/spec").then((response) => response.json()).then((content) => {
      spec = content;
      at("model").textContent = spec.model + ", trained on " + spec.data;
      if (!spec.media) {
        say("This server scores features only: it was started without extractors for media files.");
        busy("");
      }
    }).catch(() => say("The server cannot be reached.", true));
  }
})();
