"""A scorer without a model, and a server in a thread, for the tests of the server."""

import contextlib
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from msa_jax.data.dataset import Split
from msa_jax.data.spec import DatasetSpec, ModalitySpec
from msa_jax.errors import DataError
from msa_jax.serve.scorer import described

WIDTHS = {"text": 4, "audio": 3, "vision": 2}
SHAPES = [(3, 4, 4), (6, 9, 8)]
#: What is said of every file.
MEDIA: dict[str, Any] = {
    "score": 0.62,
    "class": "positive",
    "scores": {"T": 0.9, "A": -0.2, "V": 0.1},
    "transcript": "That was <b>not</b> what I had expected, it was far better " + "w" * 80,
    "duration": 6.0,
    "curve": [
        {
            "start": k,
            "end": k + 2,
            "score": k / 5 - 0.4,
            "scores": {"T": 0.5 - k / 9, "A": -0.1},
            "words": f"word {k}",
        }
        for k in range(5)
    ],
    "parts": {"text": 0.71, "audio": -0.24, "vision": 0.05},
    "nothing_known": 0.1,
    "moved_by": [
        {"modality": "audio", "group": "MFCC", "effect": -0.31},
        {"modality": "vision", "group": "FaceLmk", "effect": 0.12},
    ],
    "words": [{"word": "not", "effect": -0.44}, {"word": "<i>far</i>", "effect": 0.52}],
}


def clip(steps: tuple[int, int, int] = (2, 3, 1), value: float = 0.5) -> dict[str, Any]:
    """A request's features, all of one value."""
    return {m: [[value] * WIDTHS[m]] * n for m, n in zip(WIDTHS, steps, strict=True)}


class FakeScorer:
    """Says of a clip the mean of its words' first column; refuses the value 9 and breaks at 8."""

    def __init__(self, tasks: tuple[str, ...] = ("M", "T")):
        modalities = {m: ModalitySpec(width, 10) for m, width in WIDTHS.items()}
        data = DatasetSpec("toy", modalities, (-1.0, 1.0), "sims", class_edges=(-0.1, 0.1))
        steps = {"text": 6, "audio": 9, "vision": 8}
        self._spec = described("toy", "regression", tasks, data, SHAPES, steps, ["text"])
        self.calls: list[int] = []
        #: Set while the model may go on.
        self.gate = threading.Event()
        self.gate.set()
        #: Set once the model was called.
        self.entered = threading.Event()

    def spec(self) -> dict[str, Any]:
        return self._spec

    def score(self, split: Split) -> dict[str, np.ndarray]:
        self.entered.set()
        self.gate.wait(20)
        self.calls.append(len(split))
        first = np.asarray(split.values["text"])[:, 0, 0]
        if (first == 9).any():
            raise DataError("a clip is of another kind.")
        if (first == 8).any():
            raise ZeroDivisionError
        return dict.fromkeys(self._spec["tasks"], first)


class FakeMedia(FakeScorer):
    """Says the same of every file, and keeps where it lay and what was in it."""

    def __init__(self):
        super().__init__()
        self.files: list[tuple[pathlib.Path, bytes, float, float]] = []
        #: The lengths of the clips that it was warmed up with.
        self.warmed: list[tuple[int, ...]] = []

    def warm_media(self, split: Split) -> None:
        assert len(split) == 1
        self.warmed.append(tuple(int(split.lengths[m][0]) for m in WIDTHS))

    def score_media(self, path: pathlib.Path, window: float, stride: float) -> dict[str, Any]:
        content = path.read_bytes()
        self.files.append((path, content, window, stride))
        self.gate.wait(20)
        if content == b"no clip":
            raise DataError(f"{path} holds neither pictures nor sound; send a clip.")
        if content == b"bug":
            raise ZeroDivisionError
        return MEDIA


def lacking() -> None:
    """Skips a test where the [serve] extra or the client of Starlette's tests is not there."""
    for package in ("fastapi", "uvicorn", "python_multipart", "httpx2"):
        pytest.importorskip(package, reason=f"{package} is not installed")


@contextlib.contextmanager
def served(app: Any, grace: int | None = None) -> Iterator[int]:
    """Answers on a free port of 127.0.0.1, by a thread; gives the port.

    Args:
      app: ASGI's.
      grace: seconds that requests at work have at the end.
    """
    import uvicorn

    from msa_jax.serve.server import bound

    with bound("127.0.0.1", 0) as listening:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=grace
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        listening.listen()  # who connects before the thread does waits
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)
            app.state.service.close()
