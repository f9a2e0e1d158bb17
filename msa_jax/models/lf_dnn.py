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

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings, n_outputs, read_inputs, scores
from msa_jax.nn.fine_grained import Columns, split_columns
from msa_jax.nn.subnets import ClipSubnet, PostFusion, TextSubnet
from msa_jax.typed_settings import Count, Rate


@dataclasses.dataclass(frozen=True)
class UnimodalSettings(BaseSettings):
    """The keys of the unimodal networks, which TFN, LMF and their multi-task forms share."""

    text_hidden: Count = 128  # of the LSTM
    audio_hidden: Count = 16
    vision_hidden: Count = 128
    text_out: Count = 256
    audio_dropout: Rate = 0.2
    vision_dropout: Rate = 0.2


@dataclasses.dataclass(frozen=True)
class Settings(UnimodalSettings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    post_fusion_dim: Count = 128  # of the layers after the fusion
    post_dropout: Rate = 0.2  # before them


#: Settings of the MMSA toolkit (tuned there per data set), with batch size, learning rate and weight decay.
PRESETS = {
    "mosi": Preset(Settings(), peer_train(128, 1e-3, 0.01)),
    "mosei": Preset(Settings(audio_hidden=32, text_out=128), peer_train(64, 2e-3, 0.001)),
    "sims": Preset(
        Settings(
            audio_hidden=32, post_fusion_dim=32, audio_dropout=0.3, vision_dropout=0.3, post_dropout=0.5
        ),
        peer_train(128, 5e-3, 0.005),
    ),
}
#: For trying things out: small widths.
TINY = {"text_hidden": 8, "audio_hidden": 4, "vision_hidden": 4, "text_out": 6, "post_fusion_dim": 8}


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
            subnet = ClipSubnet(hidden, dropout, columns.get(m, ()), s.join, name=m)
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


def build(s: Settings, spec: DatasetSpec) -> LfDnn:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return LfDnn(s, split_columns(s.fg, spec), n_outputs(s))


#: Audio and vision are one vector per clip.
DATA = {"reduce": "mean", "buckets": 4}
MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, DATA, TINY)
