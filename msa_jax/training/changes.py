"""Which settings of a run may change between two of its starts."""

from typing import Any

from msa_jax.configuration import Config, flatten

#: Settings that cannot change what was trained so far, and why. train.eval_batch_size is none of them: some
#: models' validation losses depend on which clips share a batch, and so does the epoch that is kept.
FREE = {
    "train.epochs": "how long to train (but see refused_epochs)",
    "train.patience": "when to stop; the epochs so far are the same",
    "train.devices": "the same batches on other devices",
    "train.chunk_steps": "the same batches, more or fewer in one program",
    "train.checkpoint_steps": "how much a kill may lose",
    "train.tensorboard": "logging",
    "train.trackers": "logging",
    "data.path": "where the data lies; what it is, is compared by itself (spec.json)",
    "data.root": "the same",
    "data.file": "the same",
    "data.published": "words of a message",
    "data.resident": "where features wait, not what they are",
    "data.resident_gib": "the same",
    "preset": "where the values come from; they are compared by themselves",
    "model.encoder.remat": "memory for time; the gradients are the same",
}
#: Schedules that end with the last epoch.
_ENDING = ("linear", "cosine")


def between(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, {key: (old, new)}; None stands for one that is not there."""
    before, after = flatten(old), flatten(new)
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    }


def refused_epochs(old: Config, new: Config) -> str:
    """Why train.epochs may not change, where the learning rates of the epochs so far hang on it; else ""."""
    first, second = old.train.epochs, new.train.epochs
    if first == second or old.train.schedule != new.train.schedule:
        return ""
    if new.train.schedule in _ENDING:
        cause = f"train.schedule={new.train.schedule} ends with the last epoch"
    elif new.train.warmup_epochs > min(first, second):
        cause = f"train.warmup_epochs={new.train.warmup_epochs} is longer than the shorter of both"
    else:
        return ""
    return (
        f"train.epochs cannot change from {first} to {second}: {cause}, so the epochs so far would have had "
        "other learning rates"
    )
