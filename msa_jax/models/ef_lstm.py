"""EF-LSTM: early fusion (baseline of the MMSA toolkit).

Audio and vision are averaged down to the text's steps, the three are joined step by step, and an
LSTM reads the sequence; its last state gives the score. A batch normalisation in front has one
channel per *time position*, over clips and features, so a clip of other length is normalised by
other positions' statistics; that is the published model, and stays.

Fine-grained: a split modality enters as H features per step, one Dense layer per column group and
one attention head over time each (its authors did not try it on this model).

``compat=True`` restores what the public code does otherwise: padding counts as real steps, in the
normalisation and in the LSTM, and the averaging scrambles time (data.reduce sees to it).
"""

import dataclasses
import functools

import flax.linen as nn
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.errors import DataError
from msa_jax.models import objectives
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import BaseSettings, n_outputs, read_inputs, scores
from msa_jax.nn.batch_norm import BatchNorm
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.recurrent import StackedLSTM
from msa_jax.nn.subnets import DenseSubnet
from msa_jax.typed_settings import Count, Rate


@dataclasses.dataclass(frozen=True)
class Settings(BaseSettings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    hidden: Count = 128  # of the LSTM
    n_layers: Count = 4
    dropout: Rate = 0.5  # between layers and before each Dense layer


#: Settings of the MMSA toolkit (tuned there per data set), with batch size, learning rate and weight decay.
PRESETS = {
    "mosi": Preset(Settings(), peer_train(32, 1e-3, 5e-3)),
    "mosei": Preset(Settings(hidden=256, n_layers=2, dropout=0.4), peer_train(128, 5e-3, 1e-4)),
    "sims": Preset(Settings(hidden=32, n_layers=3), peer_train(128, 5e-4, 1e-3)),
}


class EfLstm(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      columns: per split modality, (name, its column groups).
      steps: T of the longest clip, channels of the normalisation.
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    columns: tuple[tuple[str, Columns], ...]
    steps: int
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]); features "normed" [B, T, D] and "fusion".

        Raises:
          DataError: if clips are longer than the normalisation has positions.
        """
        s = self.s
        if (longest := batch.mask["text"].shape[1]) > self.steps:
            raise DataError(
                f"texts of {longest} steps are longer than the {self.steps} that EF-LSTM was trained on; cut "
                "them, since it normalises every position by itself."
            )
        values, masks = read_inputs(batch, s.compat)
        for m, columns in self.columns:
            subnet = functools.partial(DenseSubnet, s.hidden)
            front = FineGrained(columns, subnet, s.join, name=f"fine_grained_{m}")
            values[m], _ = front(values[m], masks[m], train)
        x = jnp.concatenate([values[m] for m in MODALITIES], axis=-1)
        mask = masks["text"]
        real = mask & (batch.weight > 0)[:, None]
        x = BatchNorm(axis=1, channels=self.steps, name="norm")(x, real[..., None], train)
        _, finals = StackedLSTM(s.hidden, s.n_layers, dropout=s.dropout, name="lstm")(x, mask, train)
        h = Dropout(s.dropout)(finals[-1][0], train)
        h = Dropout(s.dropout)(nn.relu(Dense(s.hidden, name="linear")(h)), train)
        return Outputs({"M": scores(Dense(self.n_outputs, name="out")(h))}, {"normed": x, "fusion": h})


def build(s: Settings, spec: DatasetSpec) -> EfLstm:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return EfLstm(s, split_columns(s.fg, spec), spec.modalities["text"].length, n_outputs(s))


#: Audio and vision are averaged down to the text's steps.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {"hidden": 8, "n_layers": 2}
MODEL = Declaration(Settings, PRESETS, build, objectives.task_loss, DATA, TINY)
