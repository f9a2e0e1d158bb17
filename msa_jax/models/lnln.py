"""LNLN: a text that sound and face stand in for where words are lost (Zhang et al. 2024).

ALMT (:mod:`msa_jax.models.almt`), whose hyper-modality the text guides, made for clips with losses. A
completeness check reads from the text's tokens how much of it is there, w. A generator makes of the tokens
of audio and vision a proxy of the text's; the dominant tokens, proxy * (1 - w) + text * w, take the place
of ALMT's text. The score is read from the mean of what they find in the hyper-modality.

A training step sees each clip twice, with what ``train.corrupt`` takes and as it was. The whole clip is
only a target: w is drawn to the share of the words that stayed; a discriminator learns to tell the
dominant tokens from those of the whole text, and what makes the dominant ones learns to mislead it, by a
reversed gradient; three further transformers reconstruct the whole clip's tokens of each modality.
Evaluation has no part of that. Without ``train.corrupt`` w is drawn to 1, and discriminator and
reconstruction stay as they began.

The losses are new in every step, each clip and modality at a rate of its own; validation clips stay whole.
In the public code a modality also stays whole for half of the clips, losses hardly change between epochs,
and what is reported is the best of all epochs on the test split, per metric. None of that is restored.

Fine-grained: as in ALMT.

``compat=True`` restores what the public code does otherwise, beside what it does in ALMT:

- the gradient is reversed at the proxy instead of in front of the discriminator: the generator, and audio
  and vision through it, learn to make the score worse; what else is in the dominant tokens, and the text of
  the whole clip, learn to help the discriminator;
- the whole clip's tokens, too, are trained towards their reconstruction;
- w is drawn to 1 less the rate at which words are lost, however many really are.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from msa_jax.data.batch import Batch
from msa_jax.data.spec import MODALITIES, DatasetSpec
from msa_jax.models import almt
from msa_jax.models.almt import TRAIN, Almt, TokenEncoder, positions_of
from msa_jax.models.declare import Declaration, Preset
from msa_jax.models.objectives import Objective, clip_mean, cross_entropy, squared_error
from msa_jax.models.outputs import Outputs
from msa_jax.models.settings import n_outputs, scores
from msa_jax.models.text import CHINESE, text_source
from msa_jax.nn.fine_grained import split_columns
from msa_jax.nn.initializers import Dense
from msa_jax.nn.prenorm import PreNormEncoder
from msa_jax.typed_settings import Count, Factor


@dataclasses.dataclass(frozen=True)
class Settings(almt.Settings):
    """The model block, with all of ALMT's keys; the defaults are the authors' numbers for CMU-MOSI."""

    embed_layers: tuple[Count, Count, Count] = (2, 2, 2)
    heads: Count = 8  # of the transformers that ALMT does not have
    completeness_layers: Count = 2  # of the check of the text's tokens
    completeness_hidden: Count = 128  # inside its feed-forward networks
    proxy_layers: Count = 2  # of the generator
    proxy_hidden: Count = 128
    restore_layers: Count = 2  # of each modality's reconstruction
    restore_hidden: Count = 128
    discriminator_hidden: Count = 64
    # Factors of the losses: their alpha, beta, gamma and sigma.
    completeness_weight: Factor = 0.9
    adversarial_weight: Factor = 0.8
    restore_weight: Factor = 0.1
    task_weight: Factor = 1.0


_TRAIN = TRAIN | {"corrupt": "frames", "corrupt_rates": (0.0, 1.0)}
#: Settings of the authors' code.
PRESETS = {
    "mosi": Preset(Settings(), _TRAIN),
    "mosei": Preset(Settings(fusion_layers=4), _TRAIN),
    "sims": Preset(Settings(encoder=CHINESE, fusion_layers=4, adversarial_weight=0.6), _TRAIN),
}


def reverse_gradient(x: jax.Array) -> jax.Array:
    """x itself, to the bit, through which gradients go with the other sign."""
    return 2 * jax.lax.stop_gradient(x) - x


class Head(nn.Module):
    """Dense, LeakyReLU of slope 0.1, Dense.

    Attributes:
      hidden: width between the two.
      features: of the result.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] to [..., features]."""
        hidden = nn.leaky_relu(Dense(self.hidden, name="inner")(x), 0.1)
        return Dense(self.features, name="outer")(hidden)


class Reconstruction(nn.Module):
    """A transformer over tokens with learned positions.

    Attributes:
      encoder: what ``encoder(name=...)`` makes.
    """

    encoder: functools.partial[PreNormEncoder]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, n, d] to [B, n, d]."""
        table = self.param("positions", nn.initializers.normal(1.0), x.shape[1:])
        return self.encoder(name="encoder")(x + table[None].astype(x.dtype), train=train)


class Lnln(Almt):
    """The whole model; the attributes are ALMT's.

    Attributes:
      s: the settings.
    """

    s: Settings

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> Outputs:
        """Scores a batch: "M" [B] (logits [B, C]).

        Features: those of ALMT, where "text_states" are the dominant tokens' and "fusion" [B, d] is a mean;
        "complete" [B], w; "dominant" [B, n, d]; "checked" [B, 1, d] and "proxy" [B, n, d], with ``compat``
        with the steps behind. Where the batch has lost something, also "judged" [B, 2n, 2], the
        discriminator's logits of the dominant tokens and then of the whole text's, and per modality
        "restored_m" and what it is to be, "wanted_m", [B, n, d].
        """
        s, encode = self.s, self._encoder()
        encoded, states = encode(batch, train)
        tokens = {m: x[:, : s.tokens] for m, x in encoded.items()}
        complete, checked = self._completeness(tokens["text"], train)
        made = self._proxy(tokens, train)
        proxy, w = made[:, : s.tokens], complete[:, None, None]
        proxy = reverse_gradient(proxy) if s.compat else proxy
        dominant = proxy * (1 - w) + tokens["text"] * w
        features = self._crossed(dominant, tokens, True, train)
        fusion = jnp.mean(features["crossed"][:, 1:], axis=1)
        features |= {"fusion": fusion, "states": states, "complete": complete, "checked": checked}
        features |= {"proxy": made, "dominant": dominant, **tokens}
        features |= {f"encoded_{m}": x for m, x in encoded.items()}
        if batch.before is not None or self.is_initializing():
            clips = batch if batch.before is None else batch.before.clips
            wanted = {m: x[:, : s.tokens] for m, x in encode(clips, train)[0].items()}
            features |= self._taught(dominant, tokens, wanted, train)
        return Outputs({"M": scores(Dense(self.n_outputs, name="output")(fusion))}, features)

    def _transformer(self, n_layers: int, hidden: int) -> functools.partial[PreNormEncoder]:
        return functools.partial(PreNormEncoder, n_layers, self.s.heads, self.s.head_width, hidden)

    def _completeness(self, text: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """How much of the text is there, w [B], by its tokens [B, n, d]; and what w is read from."""
        s = self.s
        encoder = self._transformer(s.completeness_layers, s.completeness_hidden)
        checked = TokenEncoder(1, s.tokens, encoder, s.compat, name="check")(text, _all(text), train)
        complete = Head(s.d_model // 2, 1, name="complete")(checked[:, 0])
        return nn.sigmoid(complete[:, 0]), checked

    def _proxy(self, tokens: dict[str, jax.Array], train: bool) -> jax.Array:
        """A stand-in for the text's tokens from those of audio and vision, [B, n, d] (or with the steps)."""
        s = self.s
        start = self.param("proxy_start", nn.initializers.ones, (s.tokens, s.d_model))
        start = jnp.broadcast_to(start[None], tokens["audio"].shape).astype(tokens["audio"].dtype)
        x = jnp.concatenate([start, tokens["audio"], tokens["vision"]], axis=1)
        encoder = self._transformer(s.proxy_layers, s.proxy_hidden)
        return TokenEncoder(s.tokens, 3 * s.tokens, encoder, s.compat, name="proxy")(x, _all(x), train)

    def _taught(
        self,
        dominant: jax.Array,
        tokens: dict[str, jax.Array],
        wanted: dict[str, jax.Array],
        train: bool,
    ) -> dict[str, jax.Array]:
        """What only training needs, of the dominant tokens, those of the modalities and of the whole clip."""
        s = self.s
        if not s.compat:
            dominant, wanted = reverse_gradient(dominant), jax.lax.stop_gradient(wanted)
        both = jnp.concatenate([dominant, wanted["text"]], axis=1)
        found = {"judged": Head(s.discriminator_hidden, 2, name="discriminator")(both)}
        encoder = self._transformer(s.restore_layers, s.restore_hidden)
        for m, x in tokens.items():
            found[f"restored_{m}"] = Reconstruction(encoder, name=f"restore_{m}")(x, train)
            found[f"wanted_{m}"] = wanted[m]
        return found


def _all(x: jax.Array) -> jax.Array:
    """The mask [B, T] of [B, T, D] without padding."""
    return jnp.ones(x.shape[:2], bool)


def build(s: Settings, spec: DatasetSpec) -> Lnln:
    """The module for a data set.

    Raises:
      ConfigError: for values that are unknown or do not go together.
    """
    return Lnln(s, split_columns(s.fg, spec), positions_of(s, spec), text_source(s, spec), n_outputs(s))


def share_kept(mask: jax.Array, lost: jax.Array, ends: bool) -> jax.Array:
    """The share of a text's words that stayed, [B]; 0 of a text without words.

    Args:
      mask: real steps, bool [B, T].
      lost: those that were taken, bool [B, T].
      ends: whether the first and the last real step stand for no word.
    """
    words = jnp.maximum(jnp.sum(mask, axis=1) - (2 if ends else 0), 0)
    return (words - jnp.sum(lost, axis=1)) / jnp.maximum(words, 1)


def discrimination(judged: jax.Array, weight: jax.Array) -> jax.Array:
    """The discriminator's mean cross-entropy of [B, 2n, 2]: the first n tokens are class 1, the others 0."""
    own, whole = jnp.split(jax.nn.log_softmax(judged), 2, axis=1)
    return clip_mean(-jnp.mean(own[..., 1] + whole[..., 0], axis=1) / 2, weight)


def objective(s: Settings, spec: DatasetSpec) -> Objective:
    """The error of the score and what the whole clips teach; evaluation knows the error alone.

    The error is the squared one, for classification the cross-entropy. Parts: "M", "complete", and where
    the batch has lost something "adversarial" and "restore".
    """
    del spec
    error = squared_error if s.task == "regression" else cross_entropy

    def task(outputs: Outputs, batch: Batch, _memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        loss = error(outputs.predictions["M"], batch)
        return loss, {"M": loss}

    def loss(outputs: Outputs, batch: Batch, memory: object) -> tuple[jax.Array, dict[str, jax.Array]]:
        value, parts = task(outputs, batch, memory)
        features, before, mask = outputs.features, batch.before, batch.mask["text"]
        lost = jnp.zeros_like(mask) if before is None else before.lost["text"]
        wanted = share_kept(mask, lost, s.text_encoder == "finetune")
        if s.compat:
            wanted = jnp.ones_like(wanted) if before is None else 1 - before.rates["text"]
        parts["complete"] = clip_mean((features["complete"] - wanted) ** 2, batch.weight)
        total = s.task_weight * value + s.completeness_weight * parts["complete"]
        if before is not None:
            gaps = [features[f"restored_{m}"] - features[f"wanted_{m}"] for m in MODALITIES]
            away = jnp.mean(jnp.stack(gaps) ** 2, axis=(0, 2, 3))
            parts["restore"] = clip_mean(away, batch.weight)
            parts["adversarial"] = discrimination(features["judged"], batch.weight)
            total += s.restore_weight * parts["restore"] + s.adversarial_weight * parts["adversarial"]
        return total, parts

    return Objective(loss, valid=task)


#: For trying things out: small widths.
TINY = almt.TINY | {
    "embed_layers": (1, 1, 1),
    "heads": 2,
    "completeness_layers": 1,
    "completeness_hidden": 8,
    "proxy_layers": 1,
    "proxy_hidden": 8,
    "restore_layers": 1,
    "restore_hidden": 8,
    "discriminator_hidden": 6,
}
MODEL = Declaration(Settings, PRESETS, build, objective, almt.DATA, TINY)
