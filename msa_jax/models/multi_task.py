"""What the multi-task forms of LF-DNN, TFN and LMF (Yu et al. 2020) add: a head per modality.

Each unimodal vector gets a prediction of its own, trained on that modality's own label; the loss is
a weighted sum over the four tasks.
"""

import dataclasses

import flax.linen as nn
import jax

from msa_jax.data.spec import UNIMODAL_TASKS, DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.lf_dnn import UnimodalSettings
from msa_jax.models.settings import scores
from msa_jax.nn.subnets import PostFusion
from msa_jax.typed_settings import Count, Factor, Rate


@dataclasses.dataclass(frozen=True)
class TaskWeights:
    """Factors of the tasks' losses: the clip's score, and text, audio and vision alone."""

    M: Factor = 1.0
    T: Factor = 1.0
    A: Factor = 1.0
    V: Factor = 1.0


@dataclasses.dataclass(frozen=True)
class HeadSettings(UnimodalSettings):
    """What the multi-task forms add to the keys of the unimodal networks."""

    post_text_dim: Count = 16  # of the layers of each modality's head
    post_audio_dim: Count = 4
    post_vision_dim: Count = 32
    post_text_dropout: Rate = 0.5  # before them
    post_audio_dropout: Rate = 0.5
    post_vision_dropout: Rate = 0.5
    weights: TaskWeights = TaskWeights()


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


def objective(s: HeadSettings, spec: DatasetSpec) -> objectives.Objective:
    """The weighted sum of the four tasks' losses; the weights are ``model.weights``.

    Raises:
      ConfigError: if the data has no label per modality.
    """
    objectives.require_unimodal_labels(s, spec)
    return objectives.summed(s, dataclasses.asdict(s.weights))
