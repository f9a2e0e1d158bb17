"""Every setting is checked before any data is read and before a folder is claimed."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from msa_jax import metrics, models
from msa_jax.configuration import Config, flatten, require_choice
from msa_jax.data import division
from msa_jax.data.preprocess import REDUCTIONS, SCALINGS
from msa_jax.data.spec import METRIC_SETS, MODALITIES, SPLITS, parse_columns
from msa_jax.errors import ConfigError, DataError, nearest
from msa_jax.models import placeholders
from msa_jax.training import build, corrupt, optim, pretrained, trackers


class Rule(NamedTuple):
    """What a setting may be.

    Attributes:
      holds: whether a value is that.
      words: the same for a message, after "must be".
    """

    holds: Callable[[Any], bool]
    words: str


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _whole(low: int, high: int | None = None) -> Rule:
    words = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Rule(lambda v: _is_whole(v) and low <= v and (high is None or v <= high), words)


def _wholes(names: tuple[str, ...]) -> Rule:
    def holds(value: Any) -> bool:
        three = type(value) in (tuple, list) and len(value) == 3
        return three and all(_is_whole(v) and v >= 1 for v in value)

    return Rule(holds, f"three whole numbers of at least 1, for {', '.join(names)}")


def _are_shares(value: Any) -> bool:
    three = type(value) in (tuple, list) and len(value) == 3 and all(map(_is_number, value))
    return three and min(value) > 0 and math.isclose(sum(value), 1, abs_tol=1e-6)


def _is_range(value: Any) -> bool:
    pair = type(value) in (tuple, list) and len(value) == 2 and all(map(_is_number, value))
    return pair and value[0] < value[1]


def _are_rates(value: Any) -> bool:
    pair = type(value) in (tuple, list) and len(value) == 2 and all(map(_is_number, value))
    return pair and 0 <= value[0] <= value[1] <= 1


_NOT_NEGATIVE = Rule(lambda v: _is_number(v) and v >= 0, "finite and not negative")
_FLAG = Rule(lambda v: type(v) is bool, "true or false")
_TEXT = Rule(lambda v: type(v) is str, "text")
_NAMES = Rule(
    lambda v: type(v) in (tuple, list) and all(type(name) is str for name in v), "a list of texts, or ()"
)

#: Of every setting beside the choices and the model's.
RULES = {
    "train.seed": _whole(0, 2**31 - 1),  # it is an int32 on the device
    "train.epochs": _whole(1),
    "train.batch_size": _whole(1),
    "train.eval_batch_size": _whole(1),
    "train.learning_rate": _NOT_NEGATIVE,
    "train.weight_decay": _NOT_NEGATIVE,
    "train.clip_norm": _NOT_NEGATIVE,
    "train.clip_value": _NOT_NEGATIVE,
    "train.warmup_epochs": _NOT_NEGATIVE,
    "train.plateau_factor": _NOT_NEGATIVE,
    "train.plateau_patience": _whole(0),
    "train.accumulate": _whole(1),
    "train.min_delta": _NOT_NEGATIVE,
    "train.patience": _whole(0),
    "train.chunk_steps": _whole(0),
    "train.checkpoint_steps": _whole(0),
    "train.devices": _whole(0),
    "train.tensorboard": _FLAG,
    "train.watch_test": _FLAG,
    "train.fg_decay": _FLAG,
    "train.corrupt_rates": Rule(_are_rates, "two rates from 0 to 1, the lower first"),
    "train.corrupt_modalities": Rule(
        lambda v: type(v) in (tuple, list) and 0 < len(v) == len(set(v) & set(MODALITIES)),
        f"names out of {', '.join(MODALITIES)}, such as ('audio','vision')",
    ),
    "train.trackers": Rule(
        lambda v: type(v) is str and set(trackers.names(v)) <= set(trackers.KINDS),
        f"names out of {', '.join(trackers.KINDS)}, with commas between, or empty",
    ),
    "data.name": _TEXT,
    "data.path": _TEXT,
    "data.root": _TEXT,
    "data.file": _TEXT,
    "data.class_names": _NAMES,
    "data.group": Rule(
        lambda v: type(v) is str and division.COLUMN_NAME.fullmatch(v) is not None,
        "video, id, or a column's name of letters, digits and _",
    ),
    "data.split_shares": Rule(
        _are_shares, "three positive numbers, of train, valid and test, that add up to 1"
    ),
    "data.split_seed": _whole(0),
    "data.folds": _whole(0),
    "data.fold": _whole(0),
    "data.label_range": Rule(_is_range, "two finite numbers, the lower first"),
    "data.context": _whole(0),
    "data.buckets": _whole(1),
    "data.group_by_length": _FLAG,
    "data.resident_gib": _NOT_NEGATIVE,
    "data.synthetic.seed": _whole(0),
    "data.synthetic.counts": _wholes(SPLITS),
    "data.synthetic.lengths": _wholes(MODALITIES),
}
CHOICES = {
    "train.optimizer": optim.OPTIMIZERS,
    "train.schedule": optim.SCHEDULES,
    "train.precision": tuple(build.PRECISIONS),
    "train.corrupt": corrupt.KINDS,
    "train.placeholder": placeholders.KINDS,
    "data.source": ("file", "synthetic"),
    "data.metrics": METRIC_SETS,
    "data.split": division.SPLIT_KINDS,
    "data.feature_norm": SCALINGS,
    "data.reduce": REDUCTIONS,
    "data.resident": ("auto", "always", "never"),
}


def check(config: Config) -> None:
    """Checks a configuration before a training: its values, and that what it asks for is here.

    Raises:
      ConfigError: as :func:`check_values`, and for devices or an extra that are not here.
      DataError: for a column list that is none.
    """
    check_values(config)
    build.build_mesh(config.train.devices)
    trackers.require(config.train)


def check_values(config: Config) -> None:
    """Checks every value of a configuration, as far as that needs no data.

    Raises:
      ConfigError: for the first setting that is missing, of a wrong type or out of its range.
      DataError: for a column list that is none.
    """
    flat = flatten(config)
    for key in (*RULES, *CHOICES, "train.monitor", "model.name"):
        if key not in flat:
            raise ConfigError(f"the configuration has no {key}; configs/common.py lists what it must have.")
    for key, rule in RULES.items():
        if not rule.holds(flat[key]):
            raise ConfigError(f"{key}={flat[key]!r} must be {rule.words}.")
    for key, known in CHOICES.items():
        require_choice(key, flat[key], known)
    division.check_setting(config.data)
    optim.check_groups(config.train)
    _check_losses(config)
    _check_context(config)
    _check_columns(config.data)
    _check_monitor(config)
    models.check(config.model)


def _check_losses(config: Config) -> None:
    """What does not go with lost steps and modalities."""
    train = config.train
    if train.placeholder != "zero" and train.corrupt == "none":
        raise ConfigError(
            f"train.placeholder={train.placeholder!r} stands where something was lost, and training clips "
            "lose nothing; set train.corrupt."
        )
    if config.model.compat and (train.placeholder != "zero" or train.corrupt == "modalities"):
        raise ConfigError(
            "model.compat=True reads padding, so that clips cannot lack a modality; leave it out, or train "
            "without train.corrupt=modalities and train.placeholder."
        )


def _check_context(config: Config) -> None:
    """What utterances before a clip do not go with."""
    if not config.data.context:
        return
    if not pretrained.is_tuned(config.model):
        raise ConfigError(
            f"data.context={config.data.context} is for a text encoder, and {config.model.name} as it is set "
            "reads stored text features; take model.text_encoder=finetune, or set data.context=0."
        )
    if config.model.compat:
        raise ConfigError(
            "model.compat=True does as the public code, which reads a clip's own text alone; leave one of it "
            "and data.context out."
        )


def _check_columns(data: Config) -> None:
    for modality, groups in data.groups.items():
        if modality not in MODALITIES:
            raise DataError(
                f"there are column groups for {modality!r}, but the modalities are {', '.join(MODALITIES)}."
                f"{nearest(modality, MODALITIES)}"
            )
        for name, columns in groups.items():
            if type(columns) is not str:
                raise ConfigError(f"data.groups.{modality}.{name}={columns!r} must be text like '0-7,12'.")
            parse_columns(columns)


def _check_monitor(config: Config) -> None:
    """A score that no data of the set could have; what the data itself lacks is found later."""
    metric_set = "sims" if config.data.source == "synthetic" else config.data.metrics
    keys = metrics.regression_keys(metric_set, tuple(config.data.label_range))
    if config.model.task == "classification":
        keys = metrics.CLASSIFICATION_KEYS
    require_choice("train.monitor", config.train.monitor, ("loss", *keys))
