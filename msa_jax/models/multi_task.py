"""What the multi-task forms of LF-DNN, TFN and LMF (Yu et al. 2020) add: a head per modality.

Each unimodal vector gets a prediction of its own, trained on that modality's own label; the loss is
a weighted sum over the four tasks.
"""

import dataclasses

import flax.linen as nn
import jax

from msa_jax.config import Config
from msa_jax.data.spec import UNIMODAL_TASKS, DatasetSpec
from msa_jax.errors import ConfigError
from msa_jax.models import objectives
from msa_jax.models.lf_dnn import UnimodalSettings
from msa_jax.models.settings import scores
from msa_jax.nn.subnets import PostFusion


@dataclasses.dataclass(frozen=True)
class HeadSettings(UnimodalSettings):
    """Widths and dropout rates of the three heads, keys of the model block."""

    post_text_dim: int
    post_audio_dim: int
    post_vision_dim: int
    post_text_dropout: float
    post_audio_dropout: float
    post_vision_dropout: float


class UnimodalHeads(nn.Module):
    """A prediction from each unimodal vector.

    Attributes:
      s: the settings.
      n_outputs: 1, or the number of classes.
    """

    s: HeadSettings
    n_outputs: int

    @nn.compact
    def __call__(self, features: dict[str, jax.Array], train: bool) -> dict[str, jax.Array]:
        """[B, D] per modality to the predictions "T", "A", "V", each [B] or [B, C]."""
        s = self.s
        sizes = {
            "text": (s.post_text_dim, s.post_text_dropout),
            "audio": (s.post_audio_dim, s.post_audio_dropout),
            "vision": (s.post_vision_dim, s.post_vision_dropout),
        }
        return {
            UNIMODAL_TASKS[m]: scores(PostFusion(hidden, self.n_outputs, dropout, name=m)(features[m], train))
            for m, (hidden, dropout) in sizes.items()
        }


def objective(model: Config, spec: DatasetSpec) -> objectives.Objective:
    """The weighted sum of the four tasks' losses; the weights are ``model.weights``.

    Raises:
      ConfigError: for weights below 0, or if the data has no label per modality.
    """
    objectives.require_unimodal_labels(model, spec)
    weights = {task: float(model.weights[task]) for task in ("M", "T", "A", "V")}
    low = [f"{task} {weight}" for task, weight in weights.items() if weight < 0]
    if low:
        raise ConfigError(f"model.weights must not be negative (now {', '.join(low)}).")
    return objectives.summed(model, weights)
