"""MLMF: LMF with a head per modality (Yu et al. 2020), as in the MMSA toolkit.

The three unimodal vectors are fused by low-rank factors as in LMF; each is also read by a head of its
own, which is trained on that modality's own label.

``compat=True`` restores what the public code does otherwise: the fusion weights and bias are never
trained (their learning rate is 0 in its optimiser), audio and vision are averaged over the padding
too (data.reduce sees to it), and the LSTM reads the text's padding.
"""

import dataclasses

import flax.linen as nn

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import multi_task
from msa_jax.models.declare import Declaration, everywhere, peer_train, unimodal_decay
from msa_jax.models.lf_dnn import DATA, UnimodalFeatures
from msa_jax.models.lmf import TINY, LowRankFusion, factors, frozen
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, scores
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.typed_settings import Count


@dataclasses.dataclass(frozen=True)
class Settings(multi_task.HeadSettings):
    """The model block; text_out is half of text_hidden, as in the public class."""

    rank: Count = 3  # R


#: Settings of the MMSA toolkit, tuned there on CH-SIMS; no other public set has the labels. Weight decay
#: per unimodal network and for the rest; a learning rate for the factors.
PRESETS = everywhere(
    Settings(
        text_hidden=256,
        audio_hidden=32,
        vision_hidden=256,
        text_out=128,
        post_text_dim=8,
        audio_dropout=0.3,
        vision_dropout=0.3,
        post_text_dropout=0.4,
        post_audio_dropout=0.4,
        post_vision_dropout=0.4,
        weights=multi_task.TaskWeights(M=0.2, T=1.0, A=0.4, V=0.8),
    ),
    peer_train(128, 1e-3, 5e-3, groups=unimodal_decay(text=1e-4, audio=0.0, vision=1e-4) | factors(1e-3)),
)


class Mlmf(nn.Module):
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
        """Scores a batch: "M", "T", "A", "V" [B] (logits [B, C]); features as LMF's."""
        s = self.s
        features = UnimodalFeatures(s, self.columns, name="unimodal")(batch, train)
        predictions = multi_task.UnimodalHeads(s, self.n_outputs, name="heads")(features, train)
        y, products = LowRankFusion(s.rank, self.n_outputs, name="fusion")(features)
        features |= {"products": products, "fusion": products.reshape(products.shape[0], -1)}
        return Outputs({"M": scores(y), **predictions}, features)


def build(s: Settings, spec: DatasetSpec) -> Mlmf:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Mlmf(s, split_columns(s.fg, spec), n_outputs(s))


MODEL = Declaration(Settings, PRESETS, build, multi_task.objective, DATA, TINY, frozen)
