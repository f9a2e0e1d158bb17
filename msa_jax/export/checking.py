"""Whether a written export says what its run says: on random clips, and on real ones."""

import pathlib
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from msa_jax.data.dataset import Split
from msa_jax.data.opening import load_dataset
from msa_jax.data.spec import MODALITIES
from msa_jax.errors import DataError, RunError
from msa_jax.export.program import BATCH, Program, Runner
from msa_jax.inference import Trained
from msa_jax.training import pretrained

#: The largest difference of a prediction that is still the same model in another arithmetic.
TOLERANCE = 1e-4
#: Real clips that are compared.
REAL_CLIPS = 16

#: Stored clips to predictions by task.
Scorer = Callable[[Split], Mapping[str, np.ndarray]]


def random_clips(run: Trained, count: int) -> Split:
    """Clips of random lengths, with the training data's means and deviations, NaN in the padding.

    The longest text of them has an odd number of steps, where the data is long enough.
    """
    rng = np.random.default_rng(count)
    tuned = pretrained.is_tuned(run.config.model)
    values, lengths = {}, {}
    for m, record in run.spec.modalities.items():
        steps = run.model_spec.modalities[m].length if m == "text" else record.length
        longest = max(1, steps - 1 + steps % 2)
        lengths[m] = rng.integers(1, longest + 1, size=count).astype(np.int32)
        lengths[m][-1] = longest
        mean = np.asarray(record.mean or np.zeros(record.width))[None, None]
        std = np.asarray(record.std or np.ones(record.width))[None, None]
        x = mean + std * rng.normal(size=(count, steps, record.width))
        padding = np.arange(steps)[None, :] >= lengths[m][:, None]
        filler = 0.0 if run.config.model.compat else np.nan  # under compat padding is read
        values[m] = np.where(padding[..., None], filler, x).astype(np.float32)
    tokens = None
    if tuned:
        steps = values["text"].shape[1]
        mask = np.arange(steps)[None, :] < lengths["text"][:, None]
        ids = np.where(mask, rng.integers(1, run.config.model.encoder.vocab, size=mask.shape), 0)
        tokens = np.stack([ids, mask, np.zeros_like(ids)], axis=1).astype(np.int32)
    ids = np.array([f"video$_${clip}" for clip in range(count)])  # one behind the other, for data.context
    return Split(ids, values, lengths, {}, tokens=tokens)


def real_clips(run: Trained) -> Split | None:
    """Some test clips of the run's own data set; None where that cannot be opened."""
    try:
        split = load_dataset(run.config.data).splits["test"]
    except DataError:
        return None
    rows = np.arange(min(REAL_CLIPS, len(split)))
    return Split(
        split.ids[rows],
        {m: np.asarray(split.values[m][rows]) for m in MODALITIES},
        {m: np.asarray(split.lengths[m][rows]) for m in MODALITIES},
        {},
        tokens=None if split.tokens is None else np.asarray(split.tokens[rows]),
        raw_text=None if split.raw_text is None else split.raw_text[rows],
    )


def clip_sets(run: Trained) -> Iterator[tuple[str, Split]]:
    """What exports are compared on: a random clip, seven random clips, and real ones if there are any."""
    for count in (1, 7):
        yield "random", random_clips(run, count)
    real = real_clips(run)
    if real is not None:
        yield "real", real


def mean_of(runs: tuple[Trained, ...] | list[Trained]) -> Scorer:
    """The runs' own answer: the mean of their predictions."""

    def score(split: Split) -> Mapping[str, np.ndarray]:
        found = [run.predict(split) for run in runs]
        return {task: np.mean([y[task] for y in found], axis=0) for task in found[0]}

    return score


def scorer(program: Program, runner: Runner) -> Scorer:
    """A written program's answer to stored clips."""

    def score(split: Split) -> Mapping[str, np.ndarray]:
        stored = program.members[0].checked(split)
        rows = program.inputs[0].shape[0]
        size = len(split) if rows == BATCH else int(rows)
        parts = [
            runner(program.feed(stored, np.arange(first, min(first + size, len(split)))))
            for first in range(0, len(split), size)
        ]
        return {task: np.concatenate([np.asarray(part[task]) for part in parts]) for task in parts[0]}

    return score


def largest_differences(run: Trained, original: Scorer, written: Scorer) -> dict[str, float]:
    """The largest difference of any prediction, over random clips and over real ones.

    Raises:
      RunError: if predictions are missing, not finite, or differ by more than :data:`TOLERANCE`.
    """
    worst: dict[str, float] = {}
    for kind, clips in clip_sets(run):
        expected, found = original(clips), written(clips)
        if set(expected) != set(found):
            raise RunError(f"the written file answers with {sorted(found)}, the run with {sorted(expected)}.")
        for task, y in expected.items():
            difference = float(np.max(np.abs(y - found[task]))) if y.shape == found[task].shape else np.inf
            if not difference <= TOLERANCE:
                raise RunError(
                    f"the written file's prediction {task} differs from the run's by {difference:.3g} on "
                    f"{kind} clips (at most {TOLERANCE:g} is allowed); nothing was exported."
                )
            worst[kind] = max(worst.get(kind, 0.0), difference)
    return worst


def size_of(folder: pathlib.Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
