"""What a request may ask for, and the refusal of what goes beyond it.

:class:`Guard` stands in front of the application and speaks ASGI alone: it counts the bytes of a body while
they arrive, the requests at work, and the seconds.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from msa_jax.errors import MsaJaxError
from msa_jax.files import as_json

Result = TypeVar("Result")
#: ASGI's two callables.
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
#: Of every answer: nobody keeps it, and nobody guesses what it is.
HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
      body_bytes: of a request's body.
      clips: of a request.
      seconds: until a request is answered, its own arrival included.
      requests: with a body, at work at once.
      uploads: at work or waiting at once.
      media_seconds: that a media file may play.
    """

    body_bytes: int = 64 * 2**20
    clips: int = 256
    seconds: float = 120.0
    requests: int = 64
    uploads: int = 4
    media_seconds: float = 600.0

    @property
    def held_bytes(self) -> int:
        """Of the bodies of all requests at work."""
        return 4 * self.body_bytes

    @property
    def waiting(self) -> int:
        """Clips of all requests that may wait for the model."""
        return 4 * self.clips


class Refused(MsaJaxError):
    """A request that is answered with one sentence.

    Args:
      message: the sentence.
      status: of HTTP.
    """

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


class Guard:
    """Limits in front of an ASGI application.

    Args:
      app: the application.
      limits: that it keeps.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], limits: Limits):
        self.app, self.limits = app, limits
        self.at_work, self.held = 0, 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        body, begun = _Body(self, receive), False

        async def noticed(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        self.at_work += 1
        try:
            if self.at_work > self.limits.requests:
                raise busy()
            body.check_length(scope["headers"])
            async with asyncio.timeout(self.limits.seconds):
                await self.app(scope, body, noticed)
        except Refused as refusal:
            await refuse(send, refusal)
        except TimeoutError:
            if begun:
                raise
            await refuse(send, self._late(body.complete))
        except asyncio.CancelledError:  # by the server, which has been asked to end
            if begun:
                raise
            await refuse(send, Refused("the server is stopping.", 503))
        finally:
            self.at_work -= 1
            self.held -= body.bytes

    def _late(self, complete: bool) -> Refused:
        seconds = f"{self.limits.seconds:g} seconds"
        if complete:
            return Refused(f"no answer was found within {seconds}; send less at once.", 503)
        return Refused(f"the request did not arrive within {seconds}.", 408)


def busy() -> Refused:
    """What is said to a request that comes while too many are at work."""
    return Refused("the server is busy; try again in a moment.", 503)


class _Body:
    """ASGI's ``receive``, which counts the bytes of the body."""

    def __init__(self, guard: Guard, receive: Receive):
        self.guard, self.receive, self.most = guard, receive, guard.limits.body_bytes
        self.bytes, self.complete = 0, False

    def check_length(self, headers: Any) -> None:
        """Raises Refused where the request says itself that it is too long."""
        said = dict(headers).get(b"content-length", b"0")
        if not said.isdigit() or int(said[:20]) > self.most:
            raise self._too_long()

    async def __call__(self) -> Any:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise Refused("the client hung up.", 499)
        self.bytes += len(message.get("body", b""))
        self.guard.held += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        if self.bytes > self.most:
            raise self._too_long()
        if self.guard.held > self.guard.limits.held_bytes:
            raise busy()
        return message

    def _too_long(self) -> Refused:
        most = f"{self.most / 2**20:g} MiB"
        return Refused(f"a request may have at most {most}; send fewer or shorter clips.", 413)


async def refuse(send: Send, refusal: Refused) -> None:
    """Answers with the refusal's sentence."""
    headers: Mapping[str, str] = {**HEADERS, "content-type": "application/json", "connection": "close"}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    content = as_json({"error": str(refusal)}).encode()
    raw.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


async def unless_gone(receive: Receive, work: Awaitable[Result]) -> Result:
    """What the work gives; it is given up when the client hangs up.

    Args:
      receive: ASGI's, of a request whose body has arrived.
      work: to be awaited.

    Raises:
      Refused: if the client hung up.
    """
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(receive())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            watch.result()  # raises, for after the body nothing but the end of the connection comes
        return await task
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
