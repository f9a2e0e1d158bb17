"""MLF-DNN: LF-DNN with a head per modality (Yu et al. 2020), as in the MMSA toolkit.

The three unimodal vectors are joined and read as in LF-DNN; each is also read by a head of its own,
which is trained on that modality's own label.

``compat=True`` restores what the public code does otherwise: audio and vision are averaged
over the padding too (data.reduce sees to it), and the LSTM reads the text's padding.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import multi_task
from msa_jax.models.declare import Declaration, everywhere, peer_train, unimodal_decay
from msa_jax.models.lf_dnn import DATA, TINY, UnimodalFeatures
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, scores
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.subnets import PostFusion
from msa_jax.typed_settings import Count, Rate


@dataclasses.dataclass(frozen=True)
class Settings(multi_task.HeadSettings):
    """The model block."""

    post_fusion_dim: Count = 32  # of the layers after the fusion
    post_dropout: Rate = 0.5  # before them


#: Settings of the MMSA toolkit, tuned there on CH-SIMS; no other public set has the labels. Weight decay
#: differs between the unimodal networks; the rest has none.
PRESETS = everywhere(
    Settings(
        text_hidden=64,
        audio_hidden=32,
        vision_hidden=64,
        text_out=32,
        audio_dropout=0.3,
        vision_dropout=0.3,
        weights=multi_task.TaskWeights(M=0.6, T=0.2, A=0.8, V=0.8),
    ),
    peer_train(32, 2e-3, groups=unimodal_decay(text=1e-4, audio=1e-3, vision=1e-4)),
)


class MlfDnn(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      columns: per split modality, (name, its column groups).
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    columns: tuple[tuple[str, Columns], ...]
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M", "T", "A", "V" [B] (logits [B, C]); features as LF-DNN's."""
        s = self.s
        features = UnimodalFeatures(s, self.columns, name="unimodal")(batch, train)
        predictions = multi_task.UnimodalHeads(s, self.n_outputs, name="heads")(features, train)
        fusion = jnp.concatenate([features[m] for m in ("audio", "vision", "text")], axis=-1)
        y = PostFusion(s.post_fusion_dim, self.n_outputs, s.post_dropout, name="post_fusion")(fusion, train)
        return Outputs({"M": scores(y), **predictions}, {**features, "fusion": fusion})


def build(s: Settings, spec: DatasetSpec) -> MlfDnn:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return MlfDnn(s, split_columns(s.fg, spec), n_outputs(s))


MODEL = Declaration(Settings, PRESETS, build, multi_task.objective, DATA, TINY)
