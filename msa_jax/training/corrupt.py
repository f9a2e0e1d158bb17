"""Training clips lose words, frames or modalities, anew in every step (``train.corrupt``)."""

import dataclasses

import jax
import jax.numpy as jnp

from msa_jax.configuration import Config
from msa_jax.data.batch import Batch, Before
from msa_jax.data.spec import MODALITIES
from msa_jax.data.tokenize import unknown_token
from msa_jax.robust.corruptions import draws, drop, keep_around_block, keep_modalities, keep_steps, whole
from msa_jax.training import pretrained

#: What is lost: nothing, single steps, a block of steps, whole modalities (of which one at least stays).
KINDS = ("none", "frames", "blocks", "modalities")


@dataclasses.dataclass(frozen=True)
class Corrupt:
    """What a training step does to its batch before the model sees it.

    Attributes:
      kind: of KINDS.
      low: the least rate; each clip draws one for each modality, uniformly up to ``high``.
      high: the largest.
      modalities: that may lose anything.
      ends: whether text is token ids, whose first and last stay.
      unknown: the token that a lost word becomes.
    """

    kind: str
    low: float
    high: float
    modalities: tuple[str, ...]
    ends: bool
    unknown: int

    def __call__(self, batch: Batch, seed: jax.Array, step: jax.Array) -> Batch:
        """The batch with its losses, which follow from the clips' rows in their split, the seed and the step.

        What it was is ``before``; a step whose model does not read that computes nothing for it.

        Args:
          batch: of B clips.
          seed: of the run.
          step: of the training, from 0.
        """
        noise = jax.random.bits(jax.random.fold_in(jax.random.key(seed), step))
        keys = batch.index.astype("uint32")
        lengths = {m: batch.mask[m].sum(axis=1) for m in MODALITIES}
        steps = {m: batch.mask[m].shape[1] for m in MODALITIES}
        width = self.high - self.low
        rates = {m: self.low + width * draws(keys, f"rate of {m}", noise, 1)[:, 0] for m in MODALITIES}
        if self.kind == "modalities":
            kept = whole(keep_modalities(keys, rates["text"], noise), lengths, steps, self.ends)
        else:
            kept = {m: self._kept(m, keys, noise, lengths[m], steps[m], rates[m]) for m in self.modalities}
        kept = {m: kept[m] for m in self.modalities}
        lost = {m: mask & ~kept[m] if m in kept else jnp.zeros_like(mask) for m, mask in batch.mask.items()}
        asked = {m: rate if m in kept else jnp.zeros_like(rate) for m, rate in rates.items()}
        return drop(batch, kept, self.unknown).replace(before=Before(batch, lost, asked))

    def _kept(
        self, m: str, keys: jax.Array, noise: jax.Array, lengths: jax.Array, steps: int, rates: jax.Array
    ) -> jax.Array:
        """The steps of a modality that stay, bool [B, T]."""
        ends = self.ends and m == "text"
        if self.kind == "blocks":
            return keep_around_block(draws(keys, m, noise, 1)[:, 0], lengths, steps, rates, ends)
        return keep_steps(draws(keys, m, noise, steps), lengths, rates, ends)


def absent_of(config: Config) -> tuple[str, ...]:
    """The modalities that clips may lack as a whole, because training clips lost them."""
    train = config.train
    return tuple(train.corrupt_modalities) if train.corrupt == "modalities" else ()


def corrupt_of(config: Config) -> Corrupt | None:
    """What a run's training clips lose; None for nothing."""
    train = config.train
    if train.corrupt == "none":
        return None
    tuned = pretrained.is_tuned(config.model)
    unknown = unknown_token(config.model.encoder.folder) if tuned else 0  # features have no tokens
    low, high = train.corrupt_rates
    return Corrupt(train.corrupt, low, high, tuple(train.corrupt_modalities), tuned, unknown)
