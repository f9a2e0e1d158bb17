"""MISA: what modalities share and what each has to itself (Hazarika et al. 2020).

Each modality becomes one vector per clip: text the mean of its states, audio and vision the final
states of two stacked bidirectional LSTMs. All three are projected to one width; a private map each and
one shared map give six vectors, over which a transformer layer attends; joined, they give the score.
Beside the task's loss, private and shared vectors are kept apart (difference), the shared ones of the
three modalities alike (moment discrepancy), and their sum must give the projected vector back
(reconstruction).

Split modalities (Zheng et al. 2024) have a copy of the first LSTM per column group and attention over
time on their outputs. What stands for the first LSTM's final state is then the attended sequence where
a bidirectional LSTM holds its own: the forward half's last step and the backward half's first.

``compat=True`` restores what the public code does otherwise: audio and vision are read as far as the
text is long, whatever their own lengths (so most of an unaligned clip's frames are never read), their
padding as it stands where the text is longer; and it holds two layers that nothing reads, a
discriminator of the six vectors' origin and a norm for text features, so that it has as many parameters
as published. Accumulated gradients are summed (see :mod:`msa_jax.training.optim`). Not restored: a NaN
where a clip has no token, and in the moment discrepancy's gradient where two vectors are equal.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import DatasetSpec
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.objectives import Loss, Objective, cross_entropy, squared_error
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, read_inputs, require_heads, scores
from msa_jax.models.subspace_losses import difference, moment_discrepancy, squared_distance
from msa_jax.models.text import CHINESE, TINY_ENCODER, TextSettings, TextSource, TextStates, text_source
from msa_jax.nn.dropout import Dropout
from msa_jax.nn.fine_grained import Columns, FineGrained, Join, split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.pooling import last_step, masked_mean
from msa_jax.nn.recurrent import LSTM
from msa_jax.nn.transformer import EncoderLayer, layer_norm
from msa_jax.typed_settings import Count, Factor, Rate

#: Of the six vectors, first the private ones and then the shared ones.
ORDER = ("text", "vision", "audio")


@dataclasses.dataclass(frozen=True)
class Settings(TextSettings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    hidden: Count = 128  # H of the projected, private and shared vectors
    heads: Count = 2  # of the transformer layer over them
    ff_hidden: Count = 2048  # inside its feed-forward network
    dropout: Rate = 0.2  # before the last layer
    transformer_dropout: Rate = 0.1
    # Factors of the losses: private apart from shared, shared alike, and the reconstruction.
    diff_weight: Factor = 0.1
    sim_weight: Factor = 0.3
    recon_weight: Factor = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self, "heads", self.hidden, "hidden")


def _train(batch_size: int, clip_value: float) -> dict:
    """One rate for all, the encoder included; two batches per update, clipped by value."""
    return peer_train(batch_size, 1e-4, accumulate=2, clip_value=clip_value)


#: Settings of the MMSA toolkit (tuned there per data set).
PRESETS = {
    "mosi": Preset(Settings(), _train(16, 0.8)),
    "mosei": Preset(Settings(dropout=0.5, diff_weight=0.3, sim_weight=0.8), _train(64, 0.8)),
    "sims": Preset(
        Settings(encoder=CHINESE, dropout=0.0, diff_weight=0.3, sim_weight=1.0, recon_weight=0.8),
        _train(64, 1.0),
    ),
}


class BothWays(nn.Module):
    """A bidirectional LSTM's outputs.

    Attributes:
      hidden: H, per direction.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """x [B, T, D] to [B, T, 2H]; the mask [B, T] stays."""
        del train
        return LSTM(self.hidden, bidirectional=True, name="lstm")(x, mask)[0], mask


def final_states(outputs: jax.Array, mask: jax.Array) -> list[jax.Array]:
    """The final states of both directions, [B, H] each, from the outputs [B, T, 2H], zero at padding."""
    forward, backward = jnp.split(outputs, 2, axis=-1)
    return [last_step(forward, mask), backward[:, 0]]


class StackedReader(nn.Module):
    """Two bidirectional LSTMs as wide as their input, with a norm between.

    Attributes:
      columns: the column groups where the modality is split; empty: whole.
      join: how the groups become one.
    """

    columns: Columns
    join: Join

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """x [B, T, D] with mask [B, T] to both LSTMs' final states, [B, 4D]."""
        width = x.shape[-1]
        if self.columns:
            subnet = functools.partial(BothWays, width)
            front = FineGrained(self.columns, subnet, self.join, name="fine_grained")
            outputs, _ = front(x, mask, train)
        else:
            outputs, _ = BothWays(width, name="first")(x, mask, train)
        _, (second, _) = LSTM(width, bidirectional=True, name="second")(layer_norm("norm")(outputs), mask)
        forward, backward = final_states(outputs, mask)
        forward_2, backward_2 = jnp.split(second, 2, axis=-1)
        return jnp.concatenate([forward, forward_2, backward, backward_2], axis=-1)


class Misa(nn.Module):
    """The whole model.

    Attributes:
      s: the settings.
      source: where text comes from.
      columns: per split modality, (name, its column groups).
      n_outputs: 1, or the number of classes.
    """

    s: Settings
    source: TextSource
    columns: tuple[tuple[str, Columns], ...]
    n_outputs: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: the text's "states" [B, T, D]; for m of text, audio, vision "projected_m",
        "private_m", "shared_m", "reconstructed_m", [B, H]; "attended" [B, 6, H]; "fusion" [B, 6H].
        """
        s = self.s
        features, vectors = self._subspaces(batch, train)
        attended = EncoderLayer(s.heads, s.ff_hidden, s.transformer_dropout, name="transformer")(
            vectors, train=train
        )
        fusion = attended.reshape(attended.shape[0], -1)
        hidden = Dropout(s.dropout)(Dense(3 * s.hidden, name="fusion_1")(fusion), train)
        y = Dense(self.n_outputs, name="fusion_2")(nn.relu(hidden))
        return Outputs({"M": scores(y)}, {**features, "attended": attended, "fusion": fusion})

    def _subspaces(self, batch: Batch, train: bool) -> tuple[dict[str, jax.Array], jax.Array]:
        """The features before the transformer, and the six vectors [B, 6, H]."""
        states, clips = self._clip_vectors(batch, train)
        features, hidden = {"states": states}, self.s.hidden
        shared_map = Dense(hidden, name="shared")
        for m in ORDER:
            projected = layer_norm(f"project_{m}_norm")(nn.relu(Dense(hidden, name=f"project_{m}")(clips[m])))
            private = nn.sigmoid(Dense(hidden, name=f"private_{m}")(projected))
            shared = nn.sigmoid(shared_map(projected))
            features |= {
                f"projected_{m}": projected,
                f"private_{m}": private,
                f"shared_{m}": shared,
                f"reconstructed_{m}": Dense(hidden, name=f"reconstruct_{m}")(private + shared),
            }
        if self.s.compat:  # what nothing reads
            features["origin"] = Dense(4, name="discriminator")(features["shared_text"])
            layer_norm("text_norm")(jnp.zeros((1, 2 * self.source.width)))
        names = [f"{kind}_{m}" for kind in ("private", "shared") for m in ORDER]
        return features, jnp.stack([features[name] for name in names], axis=1)

    def _clip_vectors(self, batch: Batch, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The text's states [B, T, D], and a vector per modality: text [B, D], others [B, 4D]."""
        s, columns = self.s, dict(self.columns)
        states, text_mask = TextStates(self.source, s.compat, name="text_encoder")(batch, train)
        values, masks = read_inputs(batch, s.compat)
        clips = {"text": masked_mean(states, text_mask)}
        for m in ("audio", "vision"):
            x, mask = values[m], masks[m]
            if s.compat:
                x = x[:, : text_mask.shape[1]]
                mask = jnp.arange(x.shape[1])[None] < jnp.sum(text_mask, axis=1)[:, None]
            clips[m] = StackedReader(columns.get(m, ()), s.join, name=m)(x, mask, train)
        return states, clips


def build(s: Settings, spec: DatasetSpec) -> Misa:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Misa(s, text_source(s, spec), split_columns(s.fg, spec), n_outputs(s))


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """The task's loss and three factors' worth of the others; evaluation knows the task's alone.

    The task's loss is the mean squared error, for classification the cross-entropy. Parts: "task",
    "diff", "cmd", "recon".
    """
    del spec
    factors = {"diff": s.diff_weight, "cmd": s.sim_weight, "recon": s.recon_weight}
    error = squared_error if s.task == "regression" else cross_entropy

    def task(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss = error(outputs.predictions["M"], batch)
        return loss, {"task": loss}

    return Objective(_with_subspaces(task, factors), valid=task)


def _with_subspaces(task: Loss, factors: dict[str, float]) -> Loss:
    """The task's loss plus each of the others times its factor."""

    def loss(outputs: Outputs, batch: Batch, memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        total, parts = task(outputs, batch, memory)
        private, shared, projected, reconstructed = (
            {m: outputs.features[f"{kind}_{m}"] for m in ORDER}
            for kind in ("private", "shared", "projected", "reconstructed")
        )
        weight, pairs = batch.weight, (("text", "vision"), ("text", "audio"), ("audio", "vision"))
        apart = [difference(private[m], shared[m], weight) for m in ORDER]
        apart += [difference(private[a], private[b], weight) for a, b in pairs]
        alike = [moment_discrepancy(shared[a], shared[b], weight) for a, b in pairs]
        errors = [squared_distance(reconstructed[m], projected[m], weight) for m in ORDER]
        parts |= {
            "diff": jnp.stack(apart).sum(),
            "cmd": jnp.stack(alike).mean(),
            "recon": jnp.stack(errors).mean(),
        }
        return total + sum(factor * parts[name] for name, factor in factors.items()), parts

    return loss


#: Running an encoder on padding costs more than compiling for more padded lengths.
DATA = {"buckets": 4}
#: For trying things out: small widths.
TINY = {"encoder": TINY_ENCODER, "hidden": 8, "ff_hidden": 8}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY)
