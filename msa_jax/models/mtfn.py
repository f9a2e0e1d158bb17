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

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import multi_task
from msa_jax.models.declare import Declaration, everywhere, peer_train, unimodal_decay
from msa_jax.models.lf_dnn import DATA, TINY, UnimodalFeatures
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs
from msa_jax.models.tfn import Fusion, bounded, score_range, tensor_of
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.typed_settings import Count, Rate


@dataclasses.dataclass(frozen=True)
class Settings(multi_task.HeadSettings):
    """The model block."""

    post_fusion_dim: Count = 64  # of the tensor's layer and the next
    post_dropout: Rate = 0.2  # on the tensor's elements


#: Settings of the MMSA toolkit, tuned there on CH-SIMS; no other public set has the labels. Weight decay
#: differs between the unimodal networks; the rest has none.
PRESETS = everywhere(
    Settings(
        text_hidden=256,
        audio_hidden=32,
        vision_hidden=256,
        post_text_dim=64,
        post_vision_dim=8,
        post_text_dropout=0.2,
        post_audio_dropout=0.2,
        post_vision_dropout=0.2,
        weights=multi_task.TaskWeights(M=0.6, T=0.4, A=0.0, V=1.0),
    ),
    peer_train(64, 5e-3, groups=unimodal_decay(text=1e-3, audio=1e-4, vision=1e-5)),
)


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


def build(s: Settings, spec: DatasetSpec) -> Mtfn:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Mtfn(s, split_columns(s.fg, spec), n_outputs(s), score_range(s, spec))


MODEL = Declaration(Settings, PRESETS, build, multi_task.objective, DATA, TINY)
