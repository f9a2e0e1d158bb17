"""What the public code drops from clips, bit by bit, its faults included.

These are the masks behind published tables, and what ``compat`` uses. By default the faults are corrected;
that is in :mod:`msa_jax.robust.protocols`.

The definitions are those of these repositories, stated anew:

- TFR-Net (thuiar/TFR-Net 00f06a6) and EMT-DLFR (sunlicai/EMT-DLFR e9f0960): :func:`tfrnet`
- LNLN (Haoyu-ha/LNLN 80a052c): :func:`lnln`, :func:`lnln_training_rates`, :func:`lnln_training`
- OpenVNA's framework (Columbine21/Robust_Framework d92641d): :func:`openvna_random`,
  :func:`openvna_structural`
- GCNet (zeroQiaoba/GCNet 8cce4a0): :func:`gcnet`
- IMDer (mdswyz/IMDer 1901a92): :func:`imder`

Every function is pure: the generators are NumPy's and Python's old ones, made from the seed at each call.
In a mask True = kept; False = dropped or padding. Rates are of what is dropped, 0 to 1.
"""

import random
from collections.abc import Mapping

import numpy as np

from msa_jax.data.spec import MODALITIES
from msa_jax.errors import ConfigError
from msa_jax.robust.corruptions import Kept

_TFRNET_SEEDS = {"text": 111, "audio": 1111, "vision": 11111}
_LNLN_SEED = 1111
#: GCNet's columns are audio, text, vision: the places of ours among them.
_GCNET_COLUMNS = [("audio", "text", "vision").index(m) for m in MODALITIES]
#: GCNet never draws for fewer rows.
_GCNET_ROWS = 32
#: The public code draws until a mask fits. From 32 rows to 16326 (CMU-MOSEI's training clips) one in thirty
#: was measured to, or more; of 33 rows at 0.5 none can, of 100000 none did: whole percents are too coarse.
_GCNET_DRAWS = 1000
#: IMDer numbers text, vision, audio: their places among our columns.
_IMDER_COLUMNS = [MODALITIES.index(m) for m in ("text", "vision", "audio")]
#: IMDer: rate -> shares of batches that keep one modality and that keep two.
_IMDER_SHARES = {
    0.0: (0.0, 0.0), 0.1: (0.1, 0.1), 0.2: (0.2, 0.2), 0.3: (0.3, 0.3),
    0.4: (0.5, 0.2), 0.5: (0.7, 0.1), 0.6: (0.9, 0.0), 0.7: (1.0, 0.0),
}  # fmt: skip


def _real(lengths: np.ndarray, steps: int) -> np.ndarray:
    """The mask of the real steps, bool [N, L]."""
    return np.arange(steps)[None, :] < np.asarray(lengths)[:, None]


def _drop(
    lengths: Mapping[str, np.ndarray],
    steps: Mapping[str, int],
    rates: Mapping[str, float | np.ndarray],
    streams: Mapping[str, np.random.RandomState],
) -> Kept:
    """Steps dropped one by one; text's first and last token, which stand for no word, stay.

    Args:
      lengths: real steps per modality, int [N].
      steps: L per modality.
      rates: per modality, a number or [N].
      streams: per modality where its numbers come from, for the padding too. A stream that modalities share
        gives them in our order.

    Returns:
      Per modality bool [N, L].
    """
    kept: Kept = {}
    for m in MODALITIES:
        real = _real(lengths[m], steps[m])
        draws = streams[m].uniform(size=real.shape)
        kept[m] = real & (draws > np.asarray(rates[m])[..., None])
        if m == "text":
            place, last = np.arange(steps[m])[None, :], np.asarray(lengths[m])[:, None] - 1
            kept[m] |= real & ((place == 0) | (place == last))
    return kept


def tfrnet(lengths: Mapping[str, np.ndarray], steps: Mapping[str, int], rate: float) -> Kept:
    """The frames and words that TFR-Net and EMT-DLFR keep.

    Each modality has a seed of its own, 111 for text, 1111 for audio, 11111 for vision, the same in every
    split: row i of one split shares its noise with row i of the others. Another L gives other masks.

    Args:
      lengths: real steps per modality, int [N].
      steps: L per modality.
      rate: chance of a step to be dropped; text's first and last token stay.

    Returns:
      Per modality bool [N, L].
    """
    streams = {m: np.random.RandomState(seed) for m, seed in _TFRNET_SEEDS.items()}
    return _drop(lengths, steps, dict.fromkeys(MODALITIES, rate), streams)


def lnln(lengths: Mapping[str, np.ndarray], steps: Mapping[str, int], rate: float) -> Kept:
    """The frames and words that LNLN keeps when it is evaluated.

    As :func:`tfrnet`, but the seed is 1111 for all three modalities, which therefore share their noise.

    Args:
      lengths: real steps per modality, int [N].
      steps: L per modality.
      rate: chance of a step to be dropped; text's first and last token stay.

    Returns:
      Per modality bool [N, L].
    """
    return lnln_training(lengths, steps, dict.fromkeys(MODALITIES, np.asarray(rate)))


def lnln_training_rates(clips: int, seed: int = 1111) -> dict[str, np.ndarray]:
    """The rates at which LNLN's training clips lose steps.

    Uniform in [0, 1) per clip and modality; half of the clips, drawn for each modality, lose nothing there.

    Args:
      clips: N.
      seed: the run's, of NumPy's and Python's generator both.

    Returns:
      Per modality float64 [N].
    """
    uniform, chosen = np.random.RandomState(seed), random.Random(seed)
    rates = {m: uniform.uniform(size=clips) for m in MODALITIES}
    for m in MODALITIES:
        rates[m][chosen.sample(range(clips), clips // 2)] = 0
    return rates


def lnln_training(
    lengths: Mapping[str, np.ndarray], steps: Mapping[str, int], rates: Mapping[str, np.ndarray]
) -> Kept:
    """The frames and words that LNLN keeps in training, where each clip has its rates.

    The seed is 1111 whatever the run's, so a clip's noise is the same in every epoch.

    Args:
      lengths: real steps per modality, int [N].
      steps: L per modality.
      rates: of :func:`lnln_training_rates`, per modality [N].

    Returns:
      Per modality bool [N, L].
    """
    return _drop(lengths, steps, rates, {m: np.random.RandomState(_LNLN_SEED) for m in MODALITIES})


def openvna_random(
    lengths: Mapping[str, np.ndarray], steps: Mapping[str, int], rate: float, seed: int = 1111
) -> Kept:
    """The frames and words that OpenVNA's random drop keeps.

    Text, audio and vision take their numbers from one stream, in this order.

    Args:
      lengths: real steps per modality, int [N].
      steps: L per modality.
      rate: chance of a step to be dropped; text's first and last token stay.
      seed: of the noise.

    Returns:
      Per modality bool [N, L].
    """
    stream = np.random.RandomState(seed)
    return _drop(lengths, steps, dict.fromkeys(MODALITIES, rate), dict.fromkeys(MODALITIES, stream))


def openvna_structural(
    lengths: Mapping[str, np.ndarray], steps: Mapping[str, int], rate: float, seed: int = 1111
) -> Kept:
    """The frames and words that OpenVNA's structural drop keeps: all but one block per clip.

    The block is the rate's share of the steps, of text's without two, rounded half to even. Its start is
    drawn up to a place too early: it may be text's first token, which stands for no word, and the last step
    is never dropped unless all are.

    Args:
      lengths: real steps per modality, int [N].
      steps: L per modality.
      rate: share of the steps to be dropped.
      seed: of the noise.

    Returns:
      Per modality bool [N, L].
    """
    stream = np.random.RandomState(seed)
    kept: Kept = {}
    for m in MODALITIES:
        kept[m] = _real(lengths[m], steps[m])
        for row, length in zip(kept[m], np.asarray(lengths[m]).tolist(), strict=True):
            block = round(max(length - 2, 0) * rate) if m == "text" else round(length * rate)
            # Where all is dropped, the public code draws nothing, and the next clip has this one's number.
            start = stream.randint(0, length - block) if block < length else 0
            row[start : start + block] = False
    return kept


def gcnet(rows: int, rate: float, seed: int) -> np.ndarray:
    """The modalities that GCNet keeps of each utterance, one at least.

    Each row keeps one modality, drawn, and others at chances in whole percent; the first guess of the chance
    is corrected by how many of its hits fell on what was kept already, and all is drawn anew until the share
    that is missing is within 0.005 of the rate. From 2/3 on each row keeps one modality only. Fewer than 32
    rows are the first of 32, so their own share may be far from the rate.

    The public code draws one such mask per batch (and one for a second speaker) and has no seed.

    Args:
      rows: R, what the mask is drawn for: there time times batch, padding included.
      rate: share of the modalities that is missing.
      seed: of the noise.

    Returns:
      Bool [R, 3], text, audio, vision (its own columns are audio, text, vision).

    Raises:
      ConfigError: if no mask is found: of 33 rows, for one, none has half of the modalities.
    """
    if rate == 0:
        return np.ones((rows, len(MODALITIES)), bool)
    stream, share, count = np.random.RandomState(seed), 1 - rate, max(rows, _GCNET_ROWS)
    cells = len(MODALITIES) * count
    extra = cells * share - count  # modalities to keep besides the one of each row
    if extra <= 0:
        return _one_each(stream, rows)[:, _GCNET_COLUMNS]

    def hits(wanted: float) -> np.ndarray:
        return stream.randint(0, 100, size=(count, len(MODALITIES))) < int(100 * (wanted / cells))

    for _ in range(_GCNET_DRAWS):
        kept = _one_each(stream, count)
        twice = int((kept & hits(extra)).sum())
        if twice == extra:  # the public code stops here, dividing by zero
            continue
        kept |= hits(extra / (1 - twice / extra))
        if abs(share - int(kept.sum()) / cells) < 0.005:
            return kept[:rows, _GCNET_COLUMNS]
    raise ConfigError(
        f"GCNet's generator finds no mask of {rows} rows in which {rate:g} of the modalities are missing; "
        f"take other rows or another rate."
    )


def _one_each(stream: np.random.RandomState, rows: int) -> np.ndarray:
    """One modality per row, bool [R, 3]."""
    return stream.randint(0, len(MODALITIES), size=(rows, 1)) == np.arange(len(MODALITIES))[None, :]


def imder(batches: int, rate: float, seed: int = 1111) -> np.ndarray:
    """The modalities that IMDer keeps of each batch of a pass over a split.

    The first batches keep one modality, the next ones two, the rest all. How many, the rate says as shares
    of B rounded to tens, half to even, so that of five batches or fewer nothing is missing. Which modalities
    stay is drawn for every batch.

    The public code's generator runs on from whatever was drawn before; here it begins at the seed. At rate 0,
    which it does not publish, it would take the last shares, those of 0.7; here nothing is missing.

    Args:
      batches: B of the pass.
      rate: share of the modalities that is missing, 0, 0.1, ... 0.7, which is 2/3.
      seed: of Python's generator.

    Returns:
      Bool [B, 3], text, audio, vision.

    Raises:
      ConfigError: if the rate is another.
    """
    if round(rate, 6) not in _IMDER_SHARES:
        raise ConfigError(f"IMDer has no share of batches for the rate {rate:g}; take 0, 0.1, ... or 0.7.")
    alone, paired = _IMDER_SHARES[round(rate, 6)]
    generator, tens = random.Random(seed), 10 * round(batches / 10)
    kept = np.zeros((batches, len(MODALITIES)), bool)
    ones = twos = 0
    for row in kept:
        # Of no tens the public code's share is 0 / 0, which is not below any other.
        if tens and ones / tens < alone:
            stay, ones = 1, ones + 1
        elif tens and twos / tens < paired:
            stay, twos = 2, twos + 1
        else:
            stay = len(MODALITIES)
        row[generator.sample(_IMDER_COLUMNS, stay)] = True
    return kept
