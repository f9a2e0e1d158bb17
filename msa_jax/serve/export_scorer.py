"""A folder that ``msa-jax export`` wrote behind the server: StableHLO by JAX, or ONNX by onnxruntime."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.loader import Shape
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.data.tokenize import Tokenizer
from msa_jax.errors import DataError, RunError
from msa_jax.export import onnx, stablehlo
from msa_jax.export.program import TOKENS
from msa_jax.export.standalone import run as standalone
from msa_jax.files import read_json
from msa_jax.serve.batcher import bucket
from msa_jax.serve.scorer import described
from msa_jax.training.run_folder import TOKENIZER

#: The shares of the stored steps that make padded shapes, where the program leaves the steps free.
_SHARES = (0.25, 0.5, 1.0)


class ExportScorer:
    """Scores with an exported program.

    Args:
      folder: with ``spec.json`` and ``model.stablehlo`` or ``model.onnx``.

    Raises:
      RunError: if it holds weights alone, or onnxruntime is needed and not installed.
      DataError: if a file is missing or damaged.
    """

    def __init__(self, folder: str | pathlib.Path):
        folder = pathlib.Path(folder)
        self.written = read_json(folder / "spec.json", "give a folder that msa-jax export wrote")
        form = self.written.get("format")
        if form not in ("stablehlo", "onnx"):
            raise RunError(
                f"{folder} holds weights ({form}), not a program; serve the run itself, or export it with "
                "--format=stablehlo or onnx."
            )
        #: JAX compiles for every shape that it has not seen; onnxruntime takes any.
        self.compiles = form == "stablehlo"
        try:
            self._run = stablehlo.read(folder) if self.compiles else onnx.read(folder)
            self.data = DatasetSpec.from_json(json.dumps(self.written["data_as_stored"]))
            self._spec = self._described(DatasetSpec.from_json(json.dumps(self.written["data_as_read"])))
        except RunError:  # onnxruntime is not installed
            raise
        except Exception as error:  # whatever a runtime says of a file that it cannot read
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{folder} cannot be served ({reason}); export the run again.") from error
        transcripts = self._spec["reads"]["raw_text"]
        self._tokenizer = Tokenizer(folder / TOKENIZER) if transcripts else None

    def _described(self, read: DatasetSpec) -> dict[str, Any]:
        written = self.written
        inputs = {record["name"]: record["shape"] for record in written["inputs"]}
        ladders = []
        for m in MODALITIES:
            axis = inputs[TOKENS][2] if m not in inputs else inputs[m][1]
            if isinstance(axis, int):  # a program for this number of steps alone
                ladders.append([axis] * len(_SHARES))
                continue
            stored = (read if m == "text" else self.data).modalities[m].length
            most = min(stored, written["limits"].get(axis, stored))
            ladders.append([max(1, round(share * most)) for share in _SHARES])
        shapes: list[Shape] = list(dict.fromkeys(zip(*ladders, strict=True)))
        reads = ["text"]
        if TOKENS in inputs:
            reads = [TOKENS, "raw_text"] if written["preprocessing"]["tokenizer"] else [TOKENS]
        tasks = [record["name"] for record in written["outputs"]]
        steps: dict[str, int] = dict(zip(MODALITIES, shapes[-1], strict=True))
        data = dataclasses.replace(read, modalities=self.data.modalities)
        absent = written["preprocessing"].get("may_lack", ())  # which earlier exports do not say
        return described(written["model"], written["task"], tasks, data, shapes, steps, reads, absent)

    def spec(self) -> dict[str, Any]:
        """The exported model, see :func:`msa_jax.serve.scorer.described`."""
        return self._spec

    def score(self, split: Split) -> dict[str, np.ndarray]:
        """Predictions by task of N clips; see :class:`msa_jax.serve.scorer.Scorer`.

        Raises:
          DataError: if a transcript has more tokens than the padded shapes.
        """
        lengths, tokens = dict(split.lengths), split.tokens
        if tokens is None and self._tokenizer is not None:
            tokens = self._tokenised([str(text) for text in np.asarray(split.raw_text)])
            lengths["text"] = tokens[:, 1].sum(axis=1, dtype=np.int32)
        text, audio, vision = (max(1, int(lengths[m].max())) for m in MODALITIES)
        shape: Sequence[int] = (text, audio, vision)
        if self.compiles:
            shape = bucket((text, audio, vision), self._spec["shapes"])
        steps = dict(zip(MODALITIES, shape, strict=True))
        feed = {f"{m}_lengths": lengths[m] for m in MODALITIES}
        feed |= {m: standalone.fitted(np.asarray(split.values[m]), steps[m], 1) for m in MODALITIES}
        if tokens is not None:
            feed[TOKENS] = standalone.fitted(tokens, steps["text"], 2)
        if self.compiles:
            rows = np.minimum(np.arange(1 << (len(split) - 1).bit_length()), len(split) - 1)
            feed = {name: x[rows] for name, x in feed.items()}
        found = standalone.score(feed, self.written, self._run)
        return {task: np.asarray(y)[: len(split)] for task, y in found.items()}

    def _tokenised(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids [N, 3, T] of transcripts."""
        assert self._tokenizer is not None
        most = self._spec["modalities"]["text"]["steps"]
        tokens = self._tokenizer(texts, most + 1)
        if tokens.shape[2] > most:
            raise DataError(f"raw_text has more tokens than the {most} that the model is served for.")
        return tokens
