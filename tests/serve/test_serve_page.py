"""The pages: nothing from elsewhere, no complaint of the browser, no sideways scrolling on a phone."""

import asyncio
import re

import pytest
import serving
from page_reader import CHROMIUM, Page, browse

from msa_jax.serve import app as apps
from msa_jax.serve import page

#: Chooses a file, a second of silence, as a visitor would, and keeps the page loading until it was answered.
VISIT = """<script>
const bytes = new Uint8Array(16044), view = new DataView(bytes.buffer);
const put = (text, place) => new TextEncoder().encodeInto(text, bytes.subarray(place));
put("RIFF", 0); view.setUint32(4, 16036, true); put("WAVEfmt ", 8); view.setUint32(16, 16, true);
view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, 8000, true);
view.setUint32(28, 16000, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
put("data", 36); view.setUint32(40, 16000, true);
const given = new DataTransfer(), input = document.getElementById("file");
given.items.add(new File([bytes], "clip.wav", { type: "audio/wav" }));
input.files = given.files;
input.dispatchEvent(new Event("change"));
</script><img src="/answered" alt="" hidden>"""
#: A frame as wide as a phone around that page; its own load waits for the frame's.
PHONE = """<!DOCTYPE html><body><iframe src="/visit" width="360" height="4000" style="border:0"></iframe>
<script>onload = () => {
  const inner = document.querySelector("iframe").contentDocument;
  inner.querySelectorAll("details").forEach((d) => { d.open = true; });
  const scrolled = (e) => e.closest(".scroll") && !e.matches(".scroll");
  const wide = [...inner.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > 360.5 && !scrolled(e));
  const output = document.createElement("output");
  output.textContent = inner.documentElement.scrollWidth + " "
    + wide.map((e) => e.tagName + "." + e.className).join(" ");
  document.body.append(output, inner.querySelector("main"));
};</script></body>"""


def test_pages_are_whole_in_themselves():
    index = page.index()
    found = Page(index.html)
    assert found.attributes("src") == []
    assert set(found.attributes("href")) == {"data:,", "/docs"}
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|startsWith\(\"http\"\)", "", index.html)
    assert "innerHTML" not in index.html
    assert "unsafe" not in index.policy
    assert "default-src 'none'" in index.policy


@pytest.mark.extras
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Chromium or Chrome")
def test_the_browser_shows_both_pages_and_an_answer_without_complaint(tmp_path):
    serving.lacking()
    from fastapi import Response

    scorer = serving.FakeMedia()
    app = apps.create_app(scorer)

    @app.get("/visit")
    async def visit():
        return Response(page.index().html.replace("</body>", f"{VISIT}</body>"), media_type="text/html")

    @app.get("/phone")
    async def phone():
        return Response(PHONE, media_type="text/html")

    @app.get("/answered")
    async def answered():
        for _ in range(400):
            if scorer.files:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # for the page to show it
        return Response(status_code=204)

    with serving.served(app) as port:
        for path, shown in (("/", "toy, trained on toy"), ("/docs", "/predict/batch")):
            dom, complaints = browse(f"http://127.0.0.1:{port}{path}", tmp_path / "profile")
            assert complaints == []
            assert shown in dom or path == "/"  # the model's name may come after the page
        dom, complaints = browse(f"http://127.0.0.1:{port}/phone", tmp_path / "profile")
    assert complaints == []
    [(_, content, *_)] = scorer.files
    assert len(content) == 16044
    found = re.search(r"<output>(\d+) ?(.*?)</output>", dom)
    assert found, dom[-3000:]
    assert (int(found[1]) <= 360, found[2]) == (True, "")
    for part in (
        "toy, trained on toy",
        "+0.62",
        "positive",
        "&lt;b&gt;not&lt;/b&gt;",
        "From +0.10, the score if nothing were known",
        "sound: MFCC",
        "&lt;i&gt;far&lt;/i&gt;",
        "-0.31",
        "word 4",
        "6.0 s",
    ):
        assert part in dom, part
    assert len(re.findall(r'<path class="[MTAV]"', dom)) == 3
    [parts] = re.findall(r"<h2>Parts</h2>(.*?)</table>", dom)
    rows = re.findall(r'<th>(.*?)</th><td>(.*?)</td>.*?<rect class="(up|down)"', parts)
    assert rows == [("words", "+0.71", "up"), ("sound", "-0.24", "down"), ("face", "+0.05", "up")]
