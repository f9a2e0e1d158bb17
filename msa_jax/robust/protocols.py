"""Missing-data protocols by name: what is lost at which rate, as published or with its faults mended.

A published protocol is the set of clips' losses that its authors measured with. Ours draws them per clip
(:mod:`msa_jax.robust.corruptions`), so that neither the padded length nor the order of a split matters and
no two splits share their noise; with ``compat`` the public code's own numbers come out
(:mod:`msa_jax.robust.published`), its faults with them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError, nearest
from msa_jax.robust import published
from msa_jax.robust.corruptions import (
    Change,
    Kept,
    clip_keys,
    draws,
    exchange,
    keep_around_block,
    keep_modalities,
    keep_steps,
    whole,
)

#: What three modalities of which one stays have lost; GCNet and IMDer print it as 0.7.
_MOST = 2 / 3
#: Of clips at these rates (IMDer), the shares that keep one modality, and two.
_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, _MOST)
_ONE_KEPT = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_TWO_KEPT = (0.0, 0.1, 0.2, 0.3, 0.2, 0.1, 0.0, 0.0)
#: Clips of a batch, of which IMDer's public code decides as of one.
_IMDER_BATCH = 32
#: GCNet's public code is not seeded; with compat this seed is ours.
_GCNET_SEED = 100
_TENTHS = tuple(k / 10 for k in range(11))
_SEED = 1111


@dataclasses.dataclass(frozen=True)
class Clips:
    """What a protocol must know of the N clips of a split.

    Attributes:
      keys: what stands for their ids, uint32 [N]; see :func:`msa_jax.robust.corruptions.clip_keys`.
      lengths: real steps per modality, int [N].
      steps: per modality the steps of the arrays, T.
      tokens: whether the text is token ids, whose first and last stand for no word.
    """

    keys: np.ndarray
    lengths: Mapping[str, np.ndarray]
    steps: Mapping[str, int]
    tokens: bool

    @classmethod
    def of(cls, ids: Sequence[str], lengths: Mapping, steps: Mapping[str, int], tokens: bool) -> "Clips":
        """The same from the clips' ids."""
        return cls(clip_keys(ids), {m: np.asarray(lengths[m]) for m in MODALITIES}, dict(steps), tokens)


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One protocol.

    Attributes:
      name: as on the command line.
      about: what is lost, in one sentence.
      rates: the published ones; empty where there is no rate.
      bounds: the least and the largest rate that mean something.
      summary: how the authors put the rates into one figure: "area", "mean" or "area and loss".
      words: whether words are replaced by the unknown token, so that the text must be token ids.
      change: what happens to clips at a rate.
      compat: the same by the public code's arithmetic; None where there is no difference.
      compat_about: what is different then, in one sentence.
    """

    name: str
    about: str
    rates: tuple[float, ...]
    bounds: tuple[float, float]
    summary: str
    words: bool
    change: Callable[[Clips, float], Change]
    compat: Callable[[Clips, float], Change] | None = None
    compat_about: str = ""


def _losing(kept: Mapping[str, Any]) -> Change:
    return Change({m: np.asarray(keep) for m, keep in kept.items()})


def _steps_lost(seeds: Mapping[str, int]) -> Callable[[Clips, float], Change]:
    """Words and frames lost one by one, by a seed per modality."""

    def lose(clips: Clips, rate: float) -> Change:
        kept = {}
        for m in MODALITIES:
            chances = draws(jnp.asarray(clips.keys), m, seeds[m], clips.steps[m])
            ends = clips.tokens and m == "text"
            kept[m] = keep_steps(chances, jnp.asarray(clips.lengths[m]), rate, ends)
        return _losing(kept)

    return lose


def _block_lost(clips: Clips, rate: float) -> Change:
    """One block of words and of frames lost."""
    kept = {}
    for m in MODALITIES:
        chance = draws(jnp.asarray(clips.keys), f"block of {m}", _SEED, 1)[:, 0]
        ends = clips.tokens and m == "text"
        kept[m] = keep_around_block(chance, jnp.asarray(clips.lengths[m]), clips.steps[m], rate, ends)
    return _losing(kept)


def _as_steps(clips: Clips, present: np.ndarray) -> Change:
    """Whole modalities, present [N, 3] or [3], as steps."""
    lengths = {m: jnp.asarray(clips.lengths[m]) for m in MODALITIES}
    return _losing(whole(jnp.asarray(present), lengths, clips.steps, clips.tokens))


def _modalities_lost(clips: Clips, rate: float) -> Change:
    return _as_steps(clips, np.asarray(keep_modalities(jnp.asarray(clips.keys), rate, _GCNET_SEED)))


def _modalities_lost_compat(clips: Clips, rate: float) -> Change:
    return _as_steps(clips, published.gcnet(len(clips.keys), _as_printed(rate), _GCNET_SEED))


def _as_printed(rate: float) -> float:
    return 0.7 if np.isclose(rate, _MOST) else rate


def _counted_lost(clips: Clips, rate: float) -> Change:
    """Exact shares of the clips, in a drawn order, keep one modality or two, which are drawn too."""
    one, two = (float(np.interp(rate, _RATES, shares)) for shares in (_ONE_KEPT, _TWO_KEPT))
    keys, n = jnp.asarray(clips.keys), len(clips.keys)
    place = np.lexsort((clips.keys, np.asarray(draws(keys, "order of clips", _SEED, 1))[:, 0])).argsort()
    ranks = np.asarray(draws(keys, "order of modalities", _SEED, 3)).argsort(axis=1).argsort(axis=1)
    alone, pairs = int(one * n + 1e-9), int(one * n + 1e-9) + int(two * n + 1e-9)
    number = np.where(place < alone, 1, np.where(place < pairs, 2, 3))
    return _as_steps(clips, ranks < number[:, None])


def _counted_lost_compat(clips: Clips, rate: float) -> Change:
    batches = published.imder(-(-len(clips.keys) // _IMDER_BATCH), _as_printed(rate))
    return _as_steps(clips, np.repeat(batches, _IMDER_BATCH, axis=0)[: len(clips.keys)])


def _of_public(generator: Callable[..., Kept]) -> Callable[[Clips, float], Change]:
    return lambda clips, rate: Change(generator(clips.lengths, clips.steps, rate))


def _exchanged(clips: Clips, rate: float) -> Change:
    return Change(rows={m: exchange(clips.keys, m, rate, _SEED) for m in MODALITIES})


def _every(seed: int) -> dict[str, int]:
    return dict.fromkeys(MODALITIES, seed)


_WORDS = "Words and frames are lost one by one, all modalities at the same rate"
_PADDED = "its draws hang on the padded length and the place in the split"
_TFRNET = {
    "bounds": (0, 1),
    "summary": "area",
    "words": True,
    "change": _steps_lost({"text": 111, "audio": 1111, "vision": 11111}),
    "compat": _of_public(published.tfrnet),
    "compat_about": f"{_PADDED}, the same in all splits.",
}
_KNOWN = (
    Protocol("tfrnet", f"{_WORDS} (TFR-Net, Yuan et al. 2021).", _TENTHS, **_TFRNET),
    Protocol("emt", f"{_WORDS} (EMT-DLFR, Sun et al. 2023), as in tfrnet.", _TENTHS, **_TFRNET),
    Protocol(
        "lnln",
        f"{_WORDS}, up to 0.9 (LNLN, Zhang et al. 2024).",
        _TENTHS[:-1],
        (0, 1),
        "mean",
        True,
        _steps_lost(_every(_SEED)),
        _of_public(published.lnln),
        f"{_PADDED}, and one seed gives the three modalities the same draws.",
    ),
    Protocol(
        "openvna_random",
        f"{_WORDS} (OpenVNA, Yuan et al. 2024).",
        _TENTHS,
        (0, 1),
        "area and loss",
        True,
        _steps_lost(_every(_SEED)),
        _of_public(published.openvna_random),
        f"{_PADDED}, from one stream of all modalities.",
    ),
    Protocol(
        "openvna_structural",
        "A block of words and one of frames is lost, its length the rate's share of the clip (OpenVNA, Yuan "
        "et al. 2024).",
        _TENTHS,
        (0, 1),
        "area and loss",
        True,
        _block_lost,
        _of_public(published.openvna_structural),
        "the first token may be lost, and the last frame is not unless all are.",
    ),
    Protocol(
        "gcnet",
        "Whole modalities are lost, of every clip by itself and never all three; the rate is the share of "
        "modalities lost (GCNet, Lian et al. 2023).",
        _RATES,
        (0, _MOST),
        "mean",
        False,
        _modalities_lost,
        _modalities_lost_compat,
        f"one stream over the clips in their order, which nobody seeded; the seed {_GCNET_SEED} is ours.",
    ),
    Protocol(
        "imder",
        "Whole modalities are lost: exact shares of the clips keep one or two of them (IMDer, Wang et al. "
        "2023; lost modalities stay empty here and are not generated).",
        _RATES,
        (0, _MOST),
        "mean",
        False,
        _counted_lost,
        _counted_lost_compat,
        "all clips of a batch of 32 lose the same, and numbers of batches are rounded to tens.",
    ),
    Protocol(
        "subsets",
        "Every clip keeps the same modalities: each of the six sets that are not complete.",
        (),
        (0, 1),
        "mean",
        False,
        lambda clips, _rate: _as_steps(clips, np.ones(3, bool)),
    ),
    Protocol(
        "frames",
        "Words and frames are lost one by one, as in openvna_random; of text features the vectors.",
        _TENTHS,
        (0, 1),
        "area",
        False,
        _steps_lost(_every(_SEED)),
    ),
    Protocol(
        "blocks",
        "A block of words and one of frames is lost, as in openvna_structural; of text features the vectors.",
        _TENTHS,
        (0, 1),
        "area",
        False,
        _block_lost,
    ),
    Protocol(
        "noise",
        "White noise is added to the features; the rate is the signal's power over the noise's in decibels.",
        (20.0, 15.0, 10.0, 5.0, 0.0, -5.0, -10.0),
        (-60, 60),
        "mean",
        False,
        lambda clips, rate: Change(noise={m: rate for m in MODALITIES if not (clips.tokens and m == "text")}),
    ),
    Protocol(
        "exchange",
        "Clips of the split read another clip's modality.",
        _TENTHS,
        (0, 1),
        "area",
        False,
        _exchanged,
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _KNOWN}
#: The sets of modalities that clips keep under "subsets", and the complete one.
SUBSETS = (
    ("text",),
    ("audio",),
    ("vision",),
    ("text", "audio"),
    ("text", "vision"),
    ("audio", "vision"),
    MODALITIES,
)


def protocol_of(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
      ConfigError: if there is none.
    """
    if name not in PROTOCOLS:
        raise ConfigError(
            f"there is no protocol {name!r}; the known ones are {', '.join(PROTOCOLS)}."
            f"{nearest(name, PROTOCOLS)}"
        )
    return PROTOCOLS[name]


@dataclasses.dataclass(frozen=True)
class Condition:
    """One point of a curve.

    Attributes:
      label: a rate such as "0.3", or the modalities that stay.
      rate: the rate; None where there is none.
      change: what happens to the clips.
    """

    label: str
    rate: float | None
    change: Change


def conditions(
    protocol: Protocol,
    clips: Clips,
    rates: Sequence[float] = (),
    only: Sequence[str] = MODALITIES,
    compat: bool = False,
) -> list[Condition]:
    """What is measured under a protocol.

    Args:
      protocol: which.
      clips: of the split.
      rates: in place of the published ones.
      only: the modalities that anything happens to.
      compat: lose what the public code does.

    Raises:
      ConfigError: for a rate that the protocol does not have, or words to be lost of text features.
    """
    check(protocol, rates, clips.tokens, only)
    if protocol.name == "subsets":
        sets = [(kept, _as_steps(clips, np.isin(MODALITIES, kept))) for kept in SUBSETS]
        return [Condition("+".join(kept), None, change) for kept, change in sets]
    change = protocol.compat if compat and protocol.compat else protocol.change
    return [
        Condition(f"{rate:.3g}", rate, change(clips, rate).only(only)) for rate in rates or protocol.rates
    ]


def check(protocol: Protocol, rates: Sequence[float], tokens: bool, only: Sequence[str] = MODALITIES) -> None:
    """Raises what :func:`conditions` would, before anything is computed."""
    low, high = protocol.bounds
    for rate in rates:
        if not protocol.rates:
            raise ConfigError(f"{protocol.name} has no rates; leave --rates out.")
        if not low <= rate <= high:
            raise ConfigError(
                f"the rate {rate:g} is not between {low:.3g} and {high:.3g}, as {protocol.name} asks; "
                "correct --rates."
            )
    if protocol.words and not tokens and "text" in only:
        raise ConfigError(
            f"{protocol.name} replaces words by the encoder's unknown token, and this run reads text as "
            "features; take a run with model.text_encoder=tuned, or --protocol=frames, which loses vectors."
        )
