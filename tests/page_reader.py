"""Reads pages as tests look at them: parsed, and in a browser."""

import html.parser
import os
import shutil
import subprocess

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(html.parser.HTMLParser):
    """The parsed page: elements in order, ids, links, tables as text; checks that elements nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.tables, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


# A frame as wide as a phone, with everything unfolded, tells how far its page reaches.
MEASURE = """<!DOCTYPE html><body><iframe style="width:360px;height:4000px;border:0" srcdoc="{page}"></iframe>
<script>onload = () => {{
  const inner = document.querySelector("iframe").contentDocument;
  inner.querySelectorAll("details").forEach(d => d.open = true);
  const wide = [...inner.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > 360.5);
  document.body.innerHTML = "<output>" + inner.documentElement.scrollWidth + " "
    + wide.map(e => e.tagName + "." + e.className).join(" ") + "</output>";
}};</script></body>"""


def browse(page, profile):
    """The final DOM of a page, a file or an address, and what the browser's console says."""
    address = page if isinstance(page, str) else page.as_uri()
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--enable-logging=stderr", "--v=0", f"--user-data-dir={profile}", "--dump-dom", address,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
