"""LF-DNN: late fusion of three unimodal networks (baseline of the MMSA toolkit).

Audio and vision enter as one vector per clip, the mean over its real steps; each goes through an
MLP, the text through an LSTM. The three vectors are joined and three Dense layers read the score.

``compat=True`` restores what the public code does otherwise: audio and vision are averaged over the
padding too (data.reduce sees to it), and the LSTM reads the text's padding.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.config import Config
from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, read_settings, scores
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.subnets import ClipSubnet, PostFusion, TextSubnet


@dataclasses.dataclass(frozen=True)
class UnimodalSettings:
    """What the unimodal networks need of the model block of a configuration."""

    fg: str
    qkv: str
    attend_over: str
    compat: bool
    text_hidden: int
    audio_hidden: int
    vision_hidden: int
    text_out: int
    audio_dropout: float
    vision_dropout: float


@dataclasses.dataclass(frozen=True)
class Settings(UnimodalSettings):
    """The model block of a configuration; `configs/models/lf_dnn.py` explains every key."""

    post_fusion_dim: int
    post_dropout: float


class UnimodalFeatures(nn.Module):
    """The three unimodal networks, which TFN and LMF share.

    Attributes:
      s: their settings.
      columns: per split modality, (name, its column groups).
    """

    s: UnimodalSettings
    columns: tuple[tuple[str, Columns], ...]

    @nn.compact
    def __call__(self, batch: Batch, train: bool) -> dict[str, jax.Array]:
        """A vector [B, width] per modality."""
        s, columns = self.s, dict(self.columns)
        values, masks = read_inputs(batch, s.compat)
        sizes = {"audio": (s.audio_hidden, s.audio_dropout), "vision": (s.vision_hidden, s.vision_dropout)}
        features = {"text": TextSubnet(s.text_hidden, s.text_out, name="text")(values["text"], masks["text"])}
        for m, (hidden, dropout) in sizes.items():
            subnet = ClipSubnet(hidden, dropout, columns.get(m, ()), s.qkv, s.attend_over, name=m)
            features[m] = subnet(values[m], batch.weight, train)
        return features


class LfDnn(nn.Module):
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
        """Scores a batch: "M" [B] (logits [B, C]); features "text", "audio", "vision", "fusion"."""
        s = self.s
        features = UnimodalFeatures(s, self.columns, name="unimodal")(batch, train)
        fusion = jnp.concatenate([features[m] for m in ("audio", "vision", "text")], axis=-1)
        y = PostFusion(s.post_fusion_dim, self.n_outputs, s.post_dropout, name="post_fusion")(fusion, train)
        return Outputs({"M": scores(y)}, {**features, "fusion": fusion})


def build(model: Config, spec: DatasetSpec) -> LfDnn:
    """The module for a model block and a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return LfDnn(read_settings(Settings, model), split_columns(model.fg, spec), n_outputs(model))


objective = objectives.task_loss
