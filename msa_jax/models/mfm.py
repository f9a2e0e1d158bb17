"""MFM, the Multimodal Factorization Model (Tsai et al. 2019; baseline of the MMSA toolkit).

Encoders give latent variables: an LSTM per modality its own (z_text, z_audio, z_vision), and a Memory
Fusion Network (:mod:`msa_jax.models.mfn`) over all three that of the score (z_y). Small networks make
factors of them. The discriminative factor f_y gives the score; together with a modality's generative
factor it also gives that modality's features back, step by step. So the loss is the task's, plus a factor's
worth of each reconstruction, plus a factor's worth of how far the latents' distributions are from a
standard normal one (maximum mean discrepancy, MMD).

The MMD is taken against the normal distribution itself: of this kernel its expectations are known, so
nothing is drawn (see :func:`discrepancy`). The kernel divides by the width twice, as the public code
does, with which the factors of the losses were found. A clip's reconstruction error is the mean over its
own steps.

Split modalities (Zheng et al. 2024) have LSTMs per column group in the memory network as in MFN, and a
copy of their encoder per column group; neither they nor Tsai et al. printed this combination.

``compat=True`` restores what the public code does otherwise: the MMD is taken against noise that is drawn
anew in every step of training, audio and vision are aligned to the text as the toolkit's release does it
(data.reduce sees to it), and padding is read and reconstructed. Not restored: an output network of the
memory network that nothing reads.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.models import mfn
from msa_jax.models.declare import Declaration, Preset, peer_train
from msa_jax.models.mfn import memory_fusion, read_aligned
from msa_jax.models.objectives import Objective, absolute_error, clip_mean, cross_entropy
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, scores
from msa_jax.nn.bits import hashed_normal
from msa_jax.nn.fine_grained import Columns, FineGrained, split_columns
from msa_jax.nn.gated_memory import TwoLayerNet
from msa_jax.nn.initializers import Dense
from msa_jax.nn.pooling import masked_mean
from msa_jax.nn.recurrent import LSTM, LSTMInput, LSTMStep, State, scan_over_time
from msa_jax.typed_settings import Count, Factor, Rate

#: Whose latent variables there are, and the letter of each in the loss's parts.
LATENTS = {"text": "l", "audio": "a", "vision": "v", "y": "y"}


@dataclasses.dataclass(frozen=True)
class Settings(mfn.Settings):
    """The model block; the defaults are the MMSA toolkit's numbers for CMU-MOSI."""

    # Of the memory network, as in MFN; what is called out there is the head that reads f_y here.
    text_hidden: Count = 128
    vision_hidden: Count = 128
    memory: Count = 64
    retain_hidden: Count = 32
    update_hidden: Count = 64
    out_hidden: Count = 64  # there as wide as f_y
    attention_dropout: Rate = 0.7
    retain_dropout: Rate = 0.0
    # Widths of the latent variables (zl_size, za_size, zv_size, zy_size) and of the factors.
    z_text: Count = 64
    z_audio: Count = 80
    z_vision: Count = 80
    z_y: Count = 80
    f_text: Count = 32
    f_audio: Count = 16
    f_vision: Count = 64
    f_y: Count = 64
    # Inside the networks that make the factors.
    f_text_dropout: Rate = 0.5
    f_audio_dropout: Rate = 0.7
    f_vision_dropout: Rate = 0.5
    f_y_dropout: Rate = 0.5
    # Factors of the losses: the latents' discrepancy (lda_mmd), each reconstruction (lda_xl, lda_xa, lda_xv).
    mmd_weight: Factor = 100.0
    text_weight: Factor = 0.5
    audio_weight: Factor = 0.01
    vision_weight: Factor = 0.5


#: Settings of the MMSA toolkit (tuned there per data set), with batch size and weight decay. Its trainer does
#: not hand the configured learning rates to Adam, so that all of it was tuned at Adam's own.
PRESETS = {
    "mosi": Preset(Settings(), peer_train(64, 1e-3, 1e-3)),
    "mosei": Preset(
        Settings(
            text_hidden=256,
            vision_hidden=256,
            retain_hidden=64,
            update_hidden=128,
            # 1278 is what its configuration says; its list for tuning has 128.
            attention_hidden=1278,
            attention_dropout=0.5,
            proposal_hidden=32,
            proposal_dropout=0.7,
            retain_dropout=0.5,
            update_dropout=0.2,
            z_text=256,
            z_audio=80,
            z_vision=80,
            z_y=32,
            f_text=32,
            f_audio=80,
            f_vision=32,
            f_y=16,
            out_hidden=16,
            f_text_dropout=0.7,
            f_audio_dropout=0.7,
            f_vision_dropout=0.7,
            f_y_dropout=0.2,
            out_dropout=0.2,
            mmd_weight=10.0,
            text_weight=5.0,
            audio_weight=2.0,
            vision_weight=5.0,
        ),
        peer_train(64, 1e-3, 5e-4),
    ),
    "sims": Preset(
        Settings(
            text_hidden=64,
            audio_hidden=16,
            vision_hidden=64,
            memory=128,
            attention_dropout=0.5,
            proposal_dropout=0.5,
            retain_hidden=64,
            retain_dropout=0.7,
            update_hidden=256,
            update_dropout=0.0,
            z_text=256,
            z_audio=32,
            z_vision=80,
            z_y=48,
            f_text=256,
            f_audio=80,
            f_vision=48,
            f_y=48,
            out_hidden=48,
            f_text_dropout=0.0,
            f_audio_dropout=0.7,
            f_vision_dropout=0.0,
            f_y_dropout=0.5,
            out_dropout=0.7,
            mmd_weight=200.0,
            text_weight=0.5,
            audio_weight=0.01,
            vision_weight=0.01,
        ),
        peer_train(128, 1e-3, 5e-3),
    ),
}


class LastState(nn.Module):
    """An LSTM's last h, then one Dense layer.

    Attributes:
      hidden: width of both.
    """

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """x [B, T, D] and mask [B, T] to one step for every clip, [B, 1, hidden] and [B, 1]."""
        del train
        _, (h, _) = LSTM(self.hidden, name="lstm")(x, mask)
        return Dense(self.hidden, name="linear")(h)[:, None], jnp.ones((x.shape[0], 1), bool)


class _DecoderStep(nn.Module):
    """One step of :class:`Decoder`.

    Attributes:
      hidden: H.
    """

    hidden: int

    @nn.compact
    def __call__(
        self, carry: tuple[jax.Array, State], _step: jax.Array
    ) -> tuple[tuple[jax.Array, State], jax.Array]:
        x, state = carry
        state = LSTMStep(self.hidden, name="cell")(state, LSTMInput(self.hidden, name="input")(x))
        return (state[0], state), state[0]


class Decoder(nn.Module):
    """An LSTM that reads the factors first and from then on its own h, and a Dense layer on each h.

    Attributes:
      features: D.
    """

    features: int

    @nn.compact
    def __call__(self, factors: jax.Array, steps: jax.Array) -> jax.Array:
        """factors [B, H] to [B, T, D]; of ``steps`` [T, B] only their number matters."""
        zero = jnp.zeros_like(factors)
        decode = scan_over_time(_DecoderStep)(factors.shape[-1], name="steps")
        _, hidden = decode((factors, (zero, zero)), steps)
        return Dense(self.features, name="linear")(hidden).swapaxes(0, 1)


class Mfm(nn.Module):
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
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: "joint", what the memory network gives; latents and factors "z_k" and "f_k" for k of text,
        audio, vision and y, f_y under the name "fusion"; all [B, width]. For m of the modalities "decoded_m"
        [B, T, D]. In training under compat "noise_k", as wide as z_k.
        """
        s = self.s
        values, mask = read_aligned(batch, s.compat)
        joint = jnp.concatenate(list(memory_fusion(s, self.columns, values, mask, train).values()), axis=-1)
        latents = {m: self._latent(m, values[m].swapaxes(0, 1), mask.T, train) for m in MODALITIES}
        latents["y"] = Dense(s.z_y, name="latent_y")(joint)
        factors = {k: self._factor(k, z, train) for k, z in latents.items()}
        y = TwoLayerNet(s.out_hidden, self.n_outputs, s.out_dropout, name="out")(factors["y"], train)

        features = {"joint": joint, "fusion": factors["y"]}
        features |= {f"z_{k}": z for k, z in latents.items()}
        for m in MODALITIES:
            both = jnp.concatenate([factors["y"], factors[m]], axis=-1)
            decoder = Decoder(values[m].shape[-1], name=f"decoder_{m}")
            features |= {f"f_{m}": factors[m], f"decoded_{m}": decoder(both, mask)}
        if s.compat and train:
            noise = {k: hashed_normal(self.make_rng("dropout"), z.shape, 1.0) for k, z in latents.items()}
            features |= {f"noise_{k}": x for k, x in noise.items()}
        return Outputs({"M": scores(y)}, features)

    def _latent(self, m: str, x: jax.Array, mask: jax.Array, train: bool) -> jax.Array:
        """A modality's own latent variable [B, width], from x [B, T, D] and mask [B, T]."""
        s, columns = self.s, dict(self.columns)
        subnet, name = functools.partial(LastState, getattr(s, f"z_{m}")), f"encoder_{m}"
        encoder = FineGrained(columns[m], subnet, s.join, name=name) if m in columns else subnet(name=name)
        return encoder(x, mask, train)[0][:, 0]

    def _factor(self, k: str, z: jax.Array, train: bool) -> jax.Array:
        """The factor [B, width] of a latent variable."""
        width, dropout = getattr(self.s, f"f_{k}"), getattr(self.s, f"f_{k}_dropout")
        return nn.relu(TwoLayerNet(width, width, dropout, name=f"factor_{k}")(z, train))


def build(s: Settings, spec: DatasetSpec) -> Mfm:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Mfm(s, split_columns(s.fg, spec), n_outputs(s))


def _kernel_mean(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
    """Mean over all pairs of clips of k(a_i, b_j), for a and b [B, d] and the clips' weight [B]."""
    apart = jnp.mean((a[:, None] - b[None]) ** 2, axis=-1)
    kernel = jnp.exp(-apart / a.shape[1])
    return weight @ kernel @ weight / jnp.maximum(jnp.sum(weight), 1) ** 2


def discrepancy(z: jax.Array, weight: jax.Array, noise: jax.Array | None = None) -> jax.Array:
    """Squared maximum mean discrepancy of z [B, d] and a standard normal distribution.

    The kernel is k(x, y) = exp(-|x - y|^2 / d^2). For normal x and x', E k(x, x') = (1 + 4 / d^2)^(-d/2) and
    E k(x, z) = (1 + 2 / d^2)^(-d/2) exp(-|z|^2 / (d^2 + 2)).

    Args:
      z: the latent variable of each clip.
      weight: [B]; clips of weight 0 are left out.
      noise: [B, d], normal, to compare with in place of the distribution.
    """
    d = z.shape[1]
    if noise is None:
        own = (1 + 4 / d**2) ** (-d / 2)
        near = (1 + 2 / d**2) ** (-d / 2) * jnp.exp(-jnp.sum(z**2, axis=1) / (d**2 + 2))
        between = clip_mean(near, weight)
    else:
        own, between = _kernel_mean(noise, noise, weight), _kernel_mean(noise, z, weight)
    return own + _kernel_mean(z, z, weight) - 2 * between


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """task + gen + mmd_weight * mmd; evaluation knows the task's loss alone.

    The task's loss is the absolute error, for classification the cross-entropy. Parts: "task"; "rec_l",
    "rec_a", "rec_v", the reconstructions' squared errors, and "gen", their sum by their factors; "mmd_l",
    "mmd_a", "mmd_v", "mmd_y", and "mmd", their sum.
    """
    del spec
    error = absolute_error if s.task == "regression" else cross_entropy
    factors = {"text": s.text_weight, "audio": s.audio_weight, "vision": s.vision_weight}

    def task(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss = error(outputs.predictions["M"], batch)
        return loss, {"task": loss}

    def loss(outputs: Outputs, batch: Batch, memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        total, parts = task(outputs, batch, memory)
        f, (values, mask) = outputs.features, read_aligned(batch, s.compat)
        generated = jnp.zeros(())
        for m, factor in factors.items():
            squares = (f[f"decoded_{m}"] - values[m].swapaxes(0, 1)) ** 2
            apart = clip_mean(jnp.mean(masked_mean(squares, mask.T), axis=1), batch.weight)
            parts[f"rec_{LATENTS[m]}"] = apart
            generated += factor * apart
        found = {
            f"mmd_{letter}": discrepancy(f[f"z_{k}"], batch.weight, f.get(f"noise_{k}"))
            for k, letter in LATENTS.items()
        }
        parts |= found | {"gen": generated, "mmd": jnp.stack(list(found.values())).sum()}
        return total + generated + s.mmd_weight * parts["mmd"], parts

    return Objective(loss, valid=task)


#: Audio and vision are averaged down to the text's steps.
DATA = {"reduce": "align", "buckets": 4}
#: For trying things out: small widths.
TINY = {
    **mfn.TINY,
    **{"z_text": 6, "z_audio": 4, "z_vision": 4, "z_y": 6},
    **{"f_text": 6, "f_audio": 4, "f_vision": 4, "f_y": 6},
}
MODEL = Declaration(Settings, PRESETS, build, objective, DATA, TINY)
