"""What the endpoints do, without the web framework."""

import asyncio
import concurrent.futures
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from msa_jax.errors import MsaJaxError
from msa_jax.serve import batcher, uploads
from msa_jax.serve.answers import answers
from msa_jax.serve.clips import Clip, Reader, joined
from msa_jax.serve.limits import Limits, Refused, busy, unless_gone
from msa_jax.serve.scorer import Scorer


class Service:
    """One model that answers requests.

    Args:
      scorer: the model, see :class:`msa_jax.serve.scorer.Scorer`.
      limits: of a request.
      rows: how many clips of a call of the model at most.
    """

    def __init__(self, scorer: Scorer, limits: Limits, rows: int):
        self.scorer, self.limits = scorer, limits
        self.score_media = getattr(scorer, "score_media", None)
        self.model = scorer.spec()
        self.reader = Reader(self.model, limits.clips)
        self.batcher = batcher.Batcher(self._score, self._key, rows, limits.waiting)
        self._media = concurrent.futures.ThreadPoolExecutor(1, "media")
        self._uploads = 0

    def close(self) -> None:
        """Ends the threads after the calls at work."""
        self.batcher.close()
        self._media.shutdown(wait=False, cancel_futures=True)
        if close := getattr(self.scorer, "close", None):
            close()

    def spec(self) -> dict[str, Any]:
        """The model, whether it reads media, and what a request may ask for."""
        limits = {"body_bytes": self.limits.body_bytes, "clips": self.limits.clips}
        limits |= {"seconds": self.limits.seconds}
        return {**self.model, "media": self.score_media is not None, "limits": limits}

    def _score(self, clips: Sequence[Clip]) -> list[dict[str, Any]]:
        return answers(self.scorer.score(joined(clips)), self.model)

    def _key(self, clip: Clip) -> Any:
        return clip.kind, batcher.bucket(clip.steps, self.model["shapes"])

    async def one(self, request: Any) -> dict[str, Any]:
        """The answer to one clip's features; ``request`` is Starlette's."""
        clip = self.reader.one(await request.body())
        [answer] = await unless_gone(request.receive, self.batcher.submit([clip]))
        return answer

    async def many(self, request: Any) -> dict[str, Any]:
        """The answers to several clips' features, in their order."""
        clips = self.reader.many(await request.body())
        return {"clips": await unless_gone(request.receive, self.batcher.submit(clips))}

    async def upload(self, request: Any) -> dict[str, Any]:
        """What the model says of a media file, which is gone afterwards."""
        if self.score_media is None:
            raise Refused("this server scores features only; it has no extractors for media files.", 501)
        if self._uploads >= self.limits.uploads:
            raise busy()
        self._uploads += 1
        try:
            with tempfile.TemporaryDirectory(prefix="msa-jax-", ignore_cleanup_errors=True) as name:
                path, window, stride = await uploads.received(request, pathlib.Path(name))
                loop = asyncio.get_running_loop()
                call = loop.run_in_executor(self._media, self.score_media, path, window, stride)
                try:
                    return await unless_gone(request.receive, call)
                except Refused:
                    raise
                except MsaJaxError as error:  # it may name the file by where we put it
                    raise Refused(str(error).replace(str(path), "the file")) from error
        finally:
            self._uploads -= 1
