"""What the server asks of a model, and how a model describes itself to clients."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.loader import Shape
from msa_jax.data.spec import MODALITIES, THREE_CLASSES, DatasetSpec, format_columns

#: The clip's own score first, then those of words, sound and face, then whatever else a model predicts.
_ORDER = "MTAV"


class Scorer(Protocol):
    """Scores clips for the server; called by one thread at a time."""

    def spec(self) -> dict[str, Any]:
        """The model as ``/spec`` shows it, see :func:`described`; the same at every call."""
        ...

    def score(self, split: Split) -> dict[str, np.ndarray]:
        """Predictions by task, float32 [N] or logits [N, C], of N clips that keep to :meth:`spec`.

        Raises:
          MsaJaxError: if the model cannot read one of them.
        """
        ...


class MediaScorer(Scorer, Protocol):
    """A scorer that reads media files, too; called for them by another thread, one file at a time."""

    def score_media(self, path: pathlib.Path, window: float, stride: float) -> dict[str, Any]:
        """What one media file says, as plain values for JSON.

        Args:
          path: the file, which is removed after the call.
          window: seconds of a point of the curve over time.
          stride: seconds from one such point to the next.

        Returns:
          What is known of: "score" and "class" of the whole clip, "scores" (task -> score of one modality),
          "transcript", "duration" in seconds, "curve" (each {"start", "end", "score", "scores", "words"}).
          And why the clip got its score, or its predicted class the probability: "parts" (modality -> its
          Shapley value), which add up to that less "nothing_known", what it is when nothing is known of the
          clip; and that less what it is without a group of columns, "moved_by" (each {"modality", "group",
          "effect"}, the largest first), or without a word, "words" (each {"word", "effect"}, in order).

        Raises:
          MsaJaxError: if the file cannot be read.
        """
        ...

    def warm_media(self, split: Split) -> None:
        """Compiles what the reasons of a media file need; called at the start, for each padded shape.

        Args:
          split: one clip of that shape.
        """
        ...


def described(
    model: str,
    task: str,
    predicted: Sequence[str],
    data: DatasetSpec,
    shapes: Sequence[Shape],
    steps: Mapping[str, int],
    reads: Sequence[str],
    absent: Sequence[str] = (),
) -> dict[str, Any]:
    """A model's description.

    Args:
      model: its name.
      task: "regression" or "classification".
      predicted: the tasks that it predicts, such as "M" and "T".
      data: the data set that it was trained on, its features as they are stored.
      shapes: the padded steps of text, audio and vision that clips are filled to, shortest first.
      steps: per modality, how many a clip may have.
      reads: "text" (features), or "text_bert" (token ids), "raw_text" or both.
      absent: the modalities that a clip may lack.
    """
    names = data.class_names or THREE_CLASSES  # older runs have three classes and no names
    if task != "classification":
        names = THREE_CLASSES if data.class_edges is not None else ()
    return {
        "model": model,
        "data": data.name,
        "task": task,
        "tasks": sorted(predicted, key=lambda task: (_ORDER.find(task) < 0, _ORDER.find(task), task)),
        "label_range": list(data.label_range),
        "classes": list(names),
        "metrics": data.metrics,
        "class_edges": None if data.class_edges is None else list(data.class_edges),
        "modalities": {
            m: {
                "width": data.modalities[m].width,
                "steps": steps[m],
                "may_be_absent": m in absent,
                "groups": {name: format_columns(c) for name, c in data.modalities[m].groups.items()},
            }
            for m in MODALITIES
        },
        "reads": {name: name in reads for name in ("text", "text_bert", "raw_text")},
        "shapes": [list(shape) for shape in shapes],
    }
