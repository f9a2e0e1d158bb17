"""Which pages may use the server: its own, and none that a browser has open beside it.

A page of any site can have the browser send requests to this machine. It cannot read the answers, but each
costs work, and with a name of its own that it points at 127.0.0.1 it could read them too.
"""

import ipaddress
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any

from msa_jax.serve.limits import Refused, Send, refuse

#: What a browser says of requests that come from a page of the same site, or from the user.
_OWN = (b"same-origin", b"none")


class SameOrigin:
    """Refuses what pages of other sites ask for, in front of an ASGI application.

    Args:
      app: the application.
      local: whether only this machine reaches the server. Then it answers to no other name than localhost
        and addresses of this machine.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], local: bool):
        self.app, self.local = app, local

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Hands a request on, or refuses it."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1")
            if self.local and not is_local(host):
                sentence = "this server answers to localhost alone; --host says which address it listens on."
                await refuse(send, Refused(sentence, 403))
                return
            if scope["method"] not in ("GET", "HEAD") and _of_another_site(headers, host):
                await refuse(send, Refused("pages of other sites may not use this server.", 403))
                return
        await self.app(scope, receive, send)


def is_local(host: str) -> bool:
    """Whether ``NAME[:PORT]`` is localhost or a loopback address, as a request's Host header has it."""
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _of_another_site(headers: dict[bytes, bytes], host: str) -> bool:
    if said := headers.get(b"sec-fetch-site"):
        return said not in _OWN
    origin = headers.get(b"origin")
    return origin is not None and origin.decode("latin-1").partition("://")[2] != host
