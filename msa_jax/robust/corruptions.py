"""What goes wrong with clips, as pure functions: lost steps, lost modalities, noise, another clip's modality.

All of it is drawn from the clip's id, the modality and a seed, so that neither the batch nor its order nor
its padding changes what a clip loses; and it is nested in the rate: what is lost at 0.2 is lost at 0.3. The
functions of ``keys`` run inside a compiled program too.

A lost step keeps its place: masks and lengths stay as they are, and features there become zeros (or what
``filler`` says), words the encoder's unknown token. The zeros are those of the features as the model reads
them; where these were standardised, that is the training split's mean.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msa_jax.data.batch import Batch
from msa_jax.data.context import CONTEXT
from msa_jax.data.spec import MODALITIES

#: Per modality bool [N, T]: True = kept, False = lost, or padding.
Kept = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Change:
    """What happens to the N clips of a split. What is not named stays as it is.

    Attributes:
      kept: per modality the steps that are kept, bool [N, T].
      noise: per modality the power of the signal over that of the noise, in decibels.
      rows: per modality the clip that it is taken from, int [N].
    """

    kept: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    noise: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rows: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def only(self, modalities: Sequence[str]) -> "Change":
        """The same for some modalities; the others stay whole."""
        return Change(
            {m: x for m, x in self.kept.items() if m in modalities},
            {m: x for m, x in self.noise.items() if m in modalities},
            {m: x for m, x in self.rows.items() if m in modalities},
        )


def clip_keys(ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """What stands for the clips' ids in a draw: uint32 [N]."""
    digests = (hashlib.blake2b(str(name).encode(), digest_size=4).digest() for name in ids)
    return np.array([int.from_bytes(digest, "little") for digest in digests], np.uint32)


def _clip_keys(keys: jax.Array, purpose: str, seed: jax.Array | int) -> jax.Array:
    """A random key per clip, for one modality or another purpose."""
    number = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=4).digest(), "little")
    base = jax.random.fold_in(jax.random.key(seed), number)
    return jax.vmap(lambda key: jax.random.fold_in(base, key))(keys)


@functools.partial(jax.jit, static_argnames=("purpose", "count"))
def draws(keys: jax.Array, purpose: str, seed: jax.Array | int, count: int) -> jax.Array:
    """Uniform numbers in [0, 1), float32 [B, count], of which a larger count only adds some at the end.

    Args:
      keys: of the clips, uint32 [B].
      purpose: what they are for, a modality's name, say; other purposes have other numbers.
      seed: of the noise.
      count: numbers per clip.
    """

    def of_clip(key: jax.Array) -> jax.Array:
        return jax.vmap(lambda step: jax.random.uniform(jax.random.fold_in(key, step)))(jnp.arange(count))

    return jax.vmap(of_clip)(_clip_keys(keys, purpose, seed))


def _places(lengths: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """Which steps are real [B, T], and which are the first or last of these."""
    place, last = jnp.arange(steps)[None, :], jnp.asarray(lengths)[:, None] - 1
    return place <= last, (place == 0) | (place == last)


@functools.partial(jax.jit, static_argnames="ends")
def keep_steps(
    chances: jax.Array, lengths: jax.Array, rate: jax.Array | float, ends: bool = False
) -> jax.Array:
    """Steps lost one by one.

    Args:
      chances: :func:`draws` of a modality, [B, T].
      lengths: real steps, int [B].
      rate: the chance of a step to be lost, 0 to 1, a number or [B].
      ends: keep the first and the last real step, which of token ids stand for no word.

    Returns:
      Bool [B, T], True = kept.
    """
    real, end = _places(lengths, chances.shape[1])
    kept = chances >= jnp.reshape(rate, (-1, 1))
    return real & (kept | end) if ends else real & kept


@functools.partial(jax.jit, static_argnames=("steps", "ends"))
def keep_around_block(
    chance: jax.Array, lengths: jax.Array, steps: int, rate: jax.Array | float, ends: bool = False
) -> jax.Array:
    """Steps lost as one block, of a share of the clip that is the rate, rounded half to even.

    The block begins anywhere that it has room, each place as likely as another.

    Args:
      chance: one draw per clip, [B].
      lengths: real steps, int [B].
      steps: T.
      rate: share of the steps to be lost, 0 to 1, a number or [B].
      ends: as for :func:`keep_steps`.

    Returns:
      Bool [B, T], True = kept.
    """
    real, _ = _places(lengths, steps)
    first = 1 if ends else 0
    room = jnp.maximum(jnp.asarray(lengths) - 2 * first, 0)
    lost = jnp.round(room * jnp.asarray(rate, jnp.float32)).astype(jnp.int32)
    # As the block grows, the start moves by no step or one, so that the smaller block lies in the larger.
    start = first + jnp.floor(chance * (room - lost + 1)).astype(jnp.int32)
    place = jnp.arange(steps)[None, :]
    inside = (place >= start[:, None]) & (place < (start + lost)[:, None])
    return real & ~inside


@jax.jit
def keep_modalities(keys: jax.Array, rate: jax.Array | float, seed: jax.Array | int = 0) -> jax.Array:
    """Modalities lost as a whole, of every clip by itself; one at least stays.

    One modality, drawn, is safe; each of the others is lost with a chance of one and a half times the rate,
    so that the rate is the share of all modalities that are lost.

    Args:
      keys: of the clips, uint32 [B].
      rate: 0 to 2/3; more counts as 2/3.
      seed: of the noise.

    Returns:
      Bool [B, 3], text, audio, vision; True = kept.
    """
    safe = jnp.floor(3 * draws(keys, "safe modality", seed, 1)[:, 0]).astype(jnp.int32)
    chances = draws(keys, "lost modalities", seed, len(MODALITIES))
    return (chances >= 1.5 * jnp.reshape(rate, (-1, 1))) | (
        jnp.arange(len(MODALITIES))[None, :] == safe[:, None]
    )


def whole(present: jax.Array, lengths: Mapping[str, jax.Array], steps: Mapping[str, int], ends: bool) -> Kept:
    """Whole modalities as steps.

    Args:
      present: bool [B, 3], or [3] for all clips; text, audio, vision.
      lengths: real steps per modality, int [B].
      steps: T per modality.
      ends: keep text's first and last token.

    Returns:
      Per modality bool [B, T].
    """
    kept = {}
    for number, m in enumerate(MODALITIES):
        real, end = _places(lengths[m], steps[m])
        there = jnp.asarray(present)[..., number]
        there = jnp.broadcast_to(there, real.shape[:1])[:, None]
        kept[m] = real & (there | end) if ends and m == "text" else real & there
    return kept


def drop(
    batch: Batch, kept: Mapping[str, Any], unknown: int, filler: Mapping[str, Any] | None = None
) -> Batch:
    """The batch without the steps that are not kept.

    Args:
      batch: as the model reads it.
      kept: per modality bool [B, T]; a modality that is not named stays.
      unknown: id of the token that a lost word becomes.
      filler: per modality [D], what a lost step becomes; zeros where it is not given.
    """
    filler = filler or {}
    values = dict(batch.values)
    for m, keep in kept.items():
        lost = batch.mask[m] & ~keep
        instead = filler[m][None, None, :] if m in filler else jnp.float32(0)
        values[m] = jnp.where(lost[:, :, None], instead, batch.values[m])
    tokens = batch.tokens
    if tokens is not None and "text" in kept:
        steps = batch.mask["text"].shape[1]
        ids = jnp.where(batch.mask["text"] & ~kept["text"], unknown, tokens[:, 0, :steps])
        tokens = tokens.at[:, 0, :steps].set(ids)
        # Without any of its words a clip does not have those before it either. Two are [CLS] and [SEP].
        real = batch.mask["text"]
        silent = (real & ~kept["text"]).any(1) & ((real & kept["text"]).sum(1) <= 2)
        kinds = jnp.where(silent[:, None] & (tokens[:, 1] == CONTEXT), 0, tokens[:, 1])
        tokens = tokens.at[:, 1].set(kinds)
    return batch.replace(values=values, tokens=tokens)


def hide_columns(batch: Batch, columns: Mapping[str, Any], filler: Mapping[str, Any]) -> Batch:
    """The batch without some of its columns.

    Args:
      batch: as the model reads it.
      columns: per modality those that stay, bool [D].
      filler: per modality [D], what the others become.
    """
    values = dict(batch.values)
    for m, stay in columns.items():
        hidden = batch.mask[m][:, :, None] & ~stay[None, None, :]
        values[m] = jnp.where(hidden, filler[m][None, None, :], batch.values[m])
    return batch.replace(values=values)


def add_noise(
    batch: Batch, keys: jax.Array, ratio: Mapping[str, jax.Array], seed: jax.Array | int = 0
) -> Batch:
    """The batch with white Gaussian noise on the features.

    Args:
      batch: as the model reads it.
      keys: of the clips, uint32 [B].
      ratio: per modality, the power of its signal over that of the noise, in decibels. The power of a clip's
        signal is the mean square over its real steps and all columns.
      seed: of the noise.
    """
    values = dict(batch.values)
    for m, decibels in ratio.items():
        x, real = batch.values[m], batch.mask[m][:, :, None]

        def of_clip(key: jax.Array, width: int = x.shape[2], steps: int = x.shape[1]) -> jax.Array:
            of_step = lambda step: jax.random.normal(jax.random.fold_in(key, step), (width,))  # noqa: E731
            return jax.vmap(of_step)(jnp.arange(steps))

        noise = jax.vmap(of_clip)(_clip_keys(keys, f"noise in {m}", seed))
        count = jnp.maximum(batch.mask[m].sum(axis=1) * x.shape[2], 1)
        power = jnp.where(real, x, 0).astype(jnp.float32) ** 2
        level = jnp.sqrt(power.sum(axis=(1, 2)) / count * 10 ** (-jnp.asarray(decibels) / 10))
        values[m] = jnp.where(real, x + (level[:, None, None] * noise).astype(x.dtype), x)
    return batch.replace(values=values)


def exchange(keys: np.ndarray, modality: str, rate: float, seed: int = 0) -> np.ndarray:
    """From which clip of a split each one takes a modality, so that it belongs to another clip.

    The clips stand in a drawn order, and one that loses its own takes that of the clip behind it.

    Args:
      keys: of the split's clips, uint32 [N].
      modality: its name.
      rate: the chance of a clip to lose its own, 0 to 1.
      seed: of the noise.

    Returns:
      Rows int [N]; a clip that keeps its own has its own row.
    """
    rows = np.arange(len(keys))
    numbers = np.asarray(draws(jnp.asarray(keys), f"exchanged {modality}", seed, 2))
    order = np.lexsort((keys, numbers[:, 0]))
    behind = np.empty_like(rows)
    behind[order] = np.roll(order, -1)
    return np.where(numbers[:, 1] < rate, behind, rows)
