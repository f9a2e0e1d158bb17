"""The server's pages: whole in themselves, with a policy that lets nothing else run."""

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Mapping
from typing import Any, NamedTuple

#: What the page of clips may ask the visitor for.
PERMISSIONS = "camera=(self), microphone=(self), geolocation=()"


class Page(NamedTuple):
    """A page.

    Attributes:
      html: the page.
      policy: its Content-Security-Policy.
    """

    html: str
    policy: str


def _file(name: str) -> str:
    return importlib.resources.files("msa_jax.serve").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str = "") -> str:
    """Allows this style and this script, clips that the page itself holds, and requests to the server."""

    def only(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {only(style)}",
            f"script-src {only(script) if script else chr(39) + 'none' + chr(39)}",
            "media-src blob:",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


@functools.cache
def index() -> Page:
    """The page where a clip is dropped, chosen or recorded."""
    style, script = _file("page.css"), _file("page.js")
    html = _file("page.html").replace("/*style*/", style).replace("/*script*/", script)
    return Page(html, _policy(style, script))


def docs(schema: Mapping[str, Any]) -> Page:
    """The page of addresses.

    Args:
      schema: what ``/openapi.json`` holds.
    """
    import jinja2
    from markupsafe import Markup

    style = _file("page.css")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_file("docs.html"))
    html = template.render(schema=schema, style=Markup(style))
    return Page(html, _policy(style))
