"""Why a clip got its score, as a client reads it."""

import pathlib
from typing import Any

from msa_jax.data.dataset import Split
from msa_jax.explain.changed import Program
from msa_jax.explain.reasons import Reasons, explain
from msa_jax.explain.words import words_of
from msa_jax.inference import Trained
from msa_jax.serve.answers import rounded

#: Groups that are named at most.
_NAMED = 12
#: Words of a clip at most that are taken away by turns; each costs a call of the model.
_WORDS = 64


class Explainer:
    """The reasons of clips, one at a time, by a program that is kept.

    Args:
      trained: the run.
      encoder: the folder whose vocabulary made the text; None: words are not known by name and left out.
    """

    def __init__(self, trained: Trained, encoder: pathlib.Path | None):
        self.program, self._encoder = Program(trained), encoder

    def warm_up(self, clip: Split) -> None:
        """Compiles what the reasons of a clip of this padded shape need."""
        explain(self.program, clip, over=())

    def __call__(self, clip: Split) -> dict[str, Any]:
        """The reasons as plain values; see :meth:`msa_jax.serve.scorer.MediaScorer.score_media`.

        Args:
          clip: one clip as it is stored.

        Returns:
          "parts", "nothing_known" and "moved_by", and "words" where they are known by name and not too many.

        Raises:
          DataError: if the clip does not have what the model was trained on.
        """
        words = None
        if self._encoder is not None:
            [words] = words_of(self.program.trained.checked(clip), self._encoder)
        if words is not None and len(words) > _WORDS:
            words = None
        [reasons] = explain(self.program, clip, [words], over=() if words is None else ("text",))
        answer = {
            "parts": {m: rounded(part) for m, part in reasons.modalities.items()},
            "nothing_known": rounded(reasons.nothing),
            "moved_by": _moved_by(reasons, clip),
        }
        if words:
            effects = reasons.stretches["text"]
            answer["words"] = [{"word": word.label, "effect": rounded(effect)} for word, effect in effects]
        return answer


def _moved_by(reasons: Reasons, clip: Split) -> list[dict[str, Any]]:
    """The groups of columns, the largest effects first; a modality without steps has none."""
    effects = [
        (m, group, effect)
        for m, own in reasons.groups.items()
        if clip.lengths[m][0]
        for group, effect in own.items()
    ]
    effects.sort(key=lambda found: -abs(found[2]))
    return [{"modality": m, "group": group, "effect": rounded(e)} for m, group, e in effects[:_NAMED]]
