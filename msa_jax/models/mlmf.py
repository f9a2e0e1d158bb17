"""MLMF: LMF with a head per modality (Yu et al. 2020), as in the MMSA toolkit.

The three unimodal vectors are fused by low-rank factors as in LMF; each is also read by a head of its
own, which is trained on that modality's own label.

``compat=True`` restores what the public code does otherwise: the fusion weights and bias are never
trained (their learning rate is 0 in its optimiser), audio and vision are averaged over the padding
too (data.reduce sees to it), and the LSTM reads the text's padding.
"""

import dataclasses

import flax.linen as nn

from msa_jax.config import Config
from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import multi_task
from msa_jax.models.lf_dnn import UnimodalFeatures
from msa_jax.models.lmf import LowRankFusion
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_settings, scores
from msa_jax.nn.fine_grained import Columns, split_columns


@dataclasses.dataclass(frozen=True)
class Settings(multi_task.HeadSettings):
    """The model block of a configuration; `configs/models/mlmf.py` explains every key."""

    rank: int


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


def build(model: Config, spec: DatasetSpec) -> Mlmf:
    """The module for a model block and a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Mlmf(read_settings(Settings, model), split_columns(model.fg, spec), n_outputs(model))


objective = multi_task.objective


def frozen(model: Config) -> tuple[str, ...]:
    """Paths of parameters that compat leaves untrained."""
    return ("fusion/weights", "fusion/bias") if model.compat else ()
