"""MTFN, the multi-task TFN: TFN with a head per modality (Yu et al. 2020), as in the MMSA toolkit.

The tensor of the three unimodal vectors is read as in TFN; each vector is also read by a head of its
own, which is trained on that modality's own label. (Not the MTFN of Cai et al. 2025, which is part of
UFEN + MTFN.)

``compat=True`` restores what the public code does otherwise: scores lie in [-3, 3] whatever the
labels, audio and vision are averaged over the padding too (data.reduce sees to it), and the LSTM
reads the text's padding.
"""

import dataclasses

import flax.linen as nn

from msa_jax.config import Config
from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import multi_task
from msa_jax.models.lf_dnn import UnimodalFeatures
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_settings
from msa_jax.models.tfn import Fusion, bounded, score_range, tensor_of
from msa_jax.nn.fine_grained import Columns, split_columns


@dataclasses.dataclass(frozen=True)
class Settings(multi_task.HeadSettings):
    """The model block of a configuration; `configs/models/mtfn.py` explains every key."""

    post_fusion_dim: int
    post_dropout: float


class Mtfn(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      columns: per split modality, (name, its column groups).
      n_outputs: 1, or the number of classes.
      label_range: of the final scores.
    """

    s: Settings
    columns: tuple[tuple[str, Columns], ...]
    n_outputs: int
    label_range: tuple[float, float]

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M", "T", "A", "V" [B] (logits [B, C]); features as TFN's."""
        s = self.s
        features = UnimodalFeatures(s, self.columns, name="unimodal")(batch, train)
        predictions = multi_task.UnimodalHeads(s, self.n_outputs, name="heads")(features, train)
        fuse = Fusion(s.post_fusion_dim, self.n_outputs, s.post_dropout, name="post_fusion")
        y, fusion = fuse(features, train)
        predictions["M"] = bounded(y, self.label_range)
        return Outputs(predictions, {**features, "tensor": tensor_of(features), "fusion": fusion})


def build(model: Config, spec: DatasetSpec) -> Mtfn:
    """The module for a model block and a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    settings, columns = read_settings(Settings, model), split_columns(model.fg, spec)
    return Mtfn(settings, columns, n_outputs(model), score_range(model, spec))


objective = multi_task.objective
