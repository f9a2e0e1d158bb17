"""The explorer: what it holds, that no text breaks out of it, and clicks in a browser."""

import json
import re
import types

import fake_run
import numpy as np
import pytest
from page_reader import CHROMIUM, MEASURE, Page, browse

from msa_jax.commands import report
from msa_jax.errors import DataError
from msa_jax.reports import explorer
from msa_jax.reports.run import read_run

BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium or Chrome")


def held(text: str) -> dict:
    """The data inside the page."""
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, two of whose clips were explained."""
    folder = fake_run.write(tmp_path_factory.mktemp("explored") / "run", metric_set="mosi", clips=120)
    ids = read_run(folder).ids
    parts = {"text": 0.5, "audio": -0.25, "vision": 0.125}
    lines = [json.dumps({"id": name, "modalities": parts}) for name in ids[:2]]
    (folder / explorer.REASONS).write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def words(folder):
    """Transcripts, one of them with what ends a script."""
    count = len(read_run(folder).ids)
    return [
        "</script><script>alert(1)</script> & \u2028 end",
        *(f"said in clip {k}" for k in range(1, count)),
    ]


@pytest.fixture
def spoken(monkeypatch, words):
    monkeypatch.setattr(
        explorer, "tested_clips", lambda _run: types.SimpleNamespace(raw_text=np.array(words), media=None)
    )


class Placed(types.SimpleNamespace):
    """Test clips whose files lie somewhere."""

    def __len__(self):
        return len(self.ids)


def test_clips_are_played_from_where_they_were_extracted(folder, tmp_path, monkeypatch, caplog):
    run = read_run(folder)
    good = tmp_path / "a # b" / 'x"><script>.mp4'
    good.parent.mkdir()
    for path in (good, tmp_path / "c.mkv", tmp_path / "text.txt", tmp_path / "folder.mp4" / "x"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    gone = [
        str(tmp_path / "gone.mp4"),
        "javascript:alert(1)//a.mp4",
        "https://example.org/a.mp4",
        "c.mp4",
        f"/{tmp_path}/a # b/x.mp4",
        "\\\\host\\share\\a.mp4",
        str(tmp_path / "folder.mp4"),
        f"/{'n' * 5000}.mp4",
        "/a\0.mp4",
        "/\ud800.mp4",
    ]
    others = ["", str(tmp_path / "c.mkv"), str(tmp_path / "text.txt")]  # nothing that a browser plays
    places = [str(good), *gone, *others]
    places += [""] * (len(run.ids) - len(places))
    held_by = Placed(ids=np.array(run.ids), raw_text=None, media=np.array(places))
    monkeypatch.setattr(explorer, "tested_clips", lambda _run: held_by)
    monkeypatch.setattr(explorer.figures, "embed", lambda _fusion: None)  # the map takes a while
    with caplog.at_level("INFO", "msa_jax"):
        text = explorer.render(run)
    played = [clip["media"] for clip in held(text)["clips"]]
    assert played[0] == good.as_uri()
    assert played[0].startswith("file:///")
    assert not set('<>"# ') & set(played[0])
    assert not any(played[1:])
    [said] = [record.getMessage() for record in caplog.records]
    assert f"the files of {len(gone)} of 120 clips are not where they were extracted from" in said
    assert "gone.mp4'); name the folder of the clips with --media" in said
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f"{run.ids[5]}.webm").touch()
    caplog.clear()
    text = explorer.render(run, media=tmp_path / "other")
    assert [k for k, clip in enumerate(held(text)["clips"]) if clip["media"]] == [5]
    assert not caplog.records


def test_every_clip_is_there_with_all_that_is_known(folder, words, spoken, tmp_path):
    run = read_run(folder)
    (tmp_path / f"{run.ids[3]}.MP4").touch()
    (tmp_path / f"{run.ids[4]}.txt").touch()
    text = explorer.write(folder, run, tmp_path).read_text()
    found = held(text)
    assert found["heads"] == ["M", "T", "A", "V", "fusion"]
    clips = found["clips"]
    assert [clip["id"] for clip in clips] == list(run.ids)
    assert clips[0]["text"] == " ".join(words[0].split())
    assert [bool(clip["parts"]) for clip in clips] == [True, True, *[False] * 118]
    assert clips[0]["parts"] == [0.5, -0.25, 0.125]
    assert [k for k, clip in enumerate(clips) if clip["media"]] == [3]
    for row, clip in enumerate(clips):
        final, label = run.predictions["M"][row], run.label[row]
        assert clip["error"] == pytest.approx(abs(final - label), abs=1e-4)
        assert clip["wrong"] == (label != 0 and (final > 0) != (label > 0))
        three = [run.predictions[head][row] for head in "TAV"]
        assert clip["apart"] == (min(three) < 0 < max(three))
    assert any(clip["wrong"] for clip in clips)
    assert any(clip["apart"] for clip in clips)


def test_no_text_breaks_out_of_the_page(folder, spoken):
    text = explorer.render(read_run(folder))
    assert "alert(1)</script>" not in text
    assert text.count("<script") == 2
    parsed = Page(text.partition("<script")[0] + "</main></body></html>".replace("</main>", ""))
    links = parsed.attributes("href") + parsed.attributes("src")
    assert all(link.startswith("data:,") for link in links)


def test_what_is_missing_is_said(folder, capfd, tmp_path):
    run = read_run(folder)
    text = explorer.render(run)
    assert "There are no transcripts: " in text
    assert not any(clip["parts"] for clip in held(text)["clips"])
    (folder / "broken").mkdir()
    for name in (
        "config.json",
        "spec.json",
        "metrics.jsonl",
        "result.json",
        "predictions.csv",
        "features.npz",
    ):
        (folder / "broken" / name).write_bytes((folder / name).read_bytes())
    (folder / "broken" / explorer.REASONS).write_text("{")
    (folder / "broken" / "robustness" / "frames").mkdir(parents=True)
    (folder / "broken" / "robustness" / "frames" / "robustness.csv").write_text("a,b\n1,2\n")
    report.main([f"--workdir={folder / 'broken'}"])
    said = capfd.readouterr().err
    assert "reasons.jsonl is left out: it is not what msa-jax explain writes" in said
    assert "robustness.csv is left out: it is not what msa-jax robustness writes (it lacks model)" in said
    assert 'href="explorer.html"' in (folder / "broken" / "report.html").read_text()
    with pytest.raises(DataError, match="is not a folder; name the folder of the clips with --media"):
        report.main([f"--workdir={folder / 'broken'}", f"--media={tmp_path / 'none'}"])


CLICKS = """
<output id="out"></output>
<script>
addEventListener("load", () => {
  const at = (id) => document.getElementById(id);
  const out = [];
  const rows = () => [...at("rows").children].map((row) => row.firstChild.textContent);
  const errors = () => [...at("rows").children].map((row) => +row.children[8].textContent);
  const falls = errors().every((error, k, all) => !k || all[k - 1] >= error);
  out.push(["by error first", falls], ["a page", rows().length], ["found", at("found").textContent]);
  at("on").click();
  out.push(["on", at("found").textContent]);
  at("back").click();
  at("heads").children[0].firstChild.click();
  out.push(["by name", rows()[0]]);
  at("heads").children[0].firstChild.click();
  out.push(["turned", rows()[0]]);
  at("filter").value = "wrong";
  at("filter").dispatchEvent(new Event("change"));
  out.push(["wrong", at("found").textContent]);
  at("filter").value = "";
  at("search").value = "IN CLIP 7";
  at("search").dispatchEvent(new Event("input"));
  out.push(["search", rows().length, at("found").textContent]);
  at("rows").children[0].click();
  const name = () => at("clip").querySelector("h2").textContent;
  out.push(["row", name(), at("clip").querySelector(".said").textContent]);
  at("search").value = "";
  at("search").dispatchEvent(new Event("input"));
  for (const kind of ["scatter", "map"]) {
    at("kind").value = kind;
    at("kind").dispatchEvent(new Event("change"));
    const canvas = at("points"), box = canvas.getBoundingClientRect();
    const before = name();
    let hit = false;
    for (let x = 5; x < box.width && !hit; x += 9)
      for (let y = 5; y < box.height && !hit; y += 9) {
        canvas.dispatchEvent(new MouseEvent("click", { clientX: box.left + x, clientY: box.top + y }));
        hit = name() !== before;
      }
    const row = document.querySelector('#rows [aria-selected="true"]');
    out.push([kind, hit, row !== null && row.firstChild.textContent === name()]);
  }
  at("out").textContent = JSON.stringify(out);
});
</script>
"""


@pytest.mark.extras
@BROWSER
def test_clicks_in_a_browser(folder, spoken, tmp_path):
    run = read_run(folder)
    text = explorer.render(run, {})
    page = tmp_path / "explorer.html"
    page.write_text(text.replace("</body>", CLICKS + "</body>"))
    dom, complaints = browse(page, tmp_path / "profile")
    assert complaints == []
    found = json.loads(re.findall(r'<output id="out">(.*?)</output>', dom, re.S)[0])
    wrong = int(((run.label != 0) & ((run.predictions["M"] > 0) != (run.label > 0))).sum())
    names = set(run.ids)
    assert found[:7] == [
        ["by error first", True],
        ["a page", 50],
        ["found", "1 to 50 of 120 clips"],
        ["on", "51 to 100 of 120 clips"],
        ["by name", found[4][1]],
        ["turned", found[5][1]],
        ["wrong", f"{wrong} clips" if wrong <= 50 else f"1 to 50 of {wrong} clips"],
    ]
    assert found[4][1] in names
    assert found[4][1] != found[5][1]
    assert found[7][0] == "search"
    assert 1 <= found[7][1] <= 11
    assert found[8][2].startswith("said in clip 7")
    assert found[9:] == [["scatter", True, True], ["map", True, True]]


@pytest.mark.extras
@BROWSER
def test_five_thousand_clips_open_and_a_phone_needs_no_sideways_scrolling(tmp_path):
    folder = fake_run.write(tmp_path / "run", clips=5000)
    page = explorer.write(folder, read_run(folder))
    dom, complaints = browse(page, tmp_path / "profile")
    assert complaints == []
    assert "1 to 50 of 5000 clips" in dom
    small = explorer.render(read_run(fake_run.write(tmp_path / "small", clips=80)))
    frame = tmp_path / "frame.html"
    frame.write_text(MEASURE.format(page=small.replace("&", "&amp;").replace('"', "&quot;")))
    dom, _ = browse(frame, tmp_path / "profile")
    width, *wide = re.findall(r"<output>(.*?)</output>", dom, re.S)[0].split()
    inside = [name for name in wide if not name.startswith(("T", "BUTTON"))]  # the table scrolls by itself
    assert (int(width), inside) == (360, [])
