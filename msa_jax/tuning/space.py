"""A search space: settings, and what may be drawn for each.

A space file, ``configs/spaces/NAME.py``, is plain Python with ``get_space(argument) -> Space``:

    def get_space(argument=""):
        return Space(
            {
                "train.learning_rate": Number(1e-4, 1e-2, log=True),
                "train.batch_size": OneOf(16, 32, 64),
                "model.n_layers": Whole(1, 4),
                "model.d_model, model.heads": OneOf((32, 8), (40, 5), (40, 10)),
            }
        )

Settings that stand together, with commas between, are drawn together: a value that is a tuple has a part for
each, any other goes to all of them.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msa_jax import configuration
from msa_jax.configuration import Config
from msa_jax.errors import ConfigError, MsaJaxError
from msa_jax.studies.grid import as_overrides
from msa_jax.training.checks import check_values

#: Settings that no space may draw, and why.
NOT_DRAWN = {
    "train.monitor": "it is the score by which trials are compared",
    "train.seed": "the luckiest seed is no better setting",
    "train.watch_test": "tuning never looks at the test split",
    "model.task": "scores and classes are measured differently",
}


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number; both ends may be drawn.

    Attributes:
      low: the lowest.
      high: the highest.
      log: whether its logarithm is what is spread evenly.
    """

    low: int
    high: int
    log: bool = False

    def ends(self) -> tuple[int, int]:
        """The values that are checked before anything is drawn."""
        return self.low, self.high

    def fault(self) -> str:
        """What is wrong with it, "" for nothing."""
        if type(self.low) is not int or type(self.high) is not int:
            return "its ends must be whole numbers"
        return _fault_of_ends(self.low, self.high, self.log)


@dataclasses.dataclass(frozen=True)
class Number:
    """A number.

    Attributes:
      low: the lowest.
      high: the highest.
      log: whether its logarithm is what is spread evenly, as for rates of learning.
    """

    low: float
    high: float
    log: bool = False

    def ends(self) -> tuple[float, float]:
        """The values that are checked before anything is drawn."""
        return self.low, self.high

    def rounded(self, value: float) -> float:
        """A draw with four digits, which is what people copy; never beyond the ends."""
        return min(max(float(f"{value:.4g}"), float(self.low)), float(self.high))

    def fault(self) -> str:
        """What is wrong with it, "" for nothing."""
        for end in (self.low, self.high):
            if type(end) not in (int, float) or not math.isfinite(end):
                return "its ends must be finite numbers"
        return _fault_of_ends(self.low, self.high, self.log)


@dataclasses.dataclass(frozen=True, init=False)
class OneOf:
    """One of some values: numbers, words, true or false; for settings that stand together, tuples.

    Attributes:
      values: at least two, which have no order.
    """

    values: tuple[Any, ...]

    def __init__(self, *values: Any):
        object.__setattr__(self, "values", values)

    def ends(self) -> tuple[Any, ...]:
        """The values that are checked before anything is drawn."""
        return self.values

    def fault(self) -> str:
        """What is wrong with it, "" for nothing."""
        if len({str(value) for value in self.values}) < len(self.values):
            return "it has a value twice"
        return "" if len(self.values) > 1 else "it must have at least two values"


def _fault_of_ends(low: float, high: float, log: bool) -> str:
    if not low < high:
        return f"its lower end {low:g} must lie below its upper end {high:g}"
    return f"its lower end {low:g} must lie above 0 for log=True" if log and low <= 0 else ""


#: What may be drawn for a setting.
Dimension = Whole | Number | OneOf


@dataclasses.dataclass(frozen=True)
class Space:
    """What is drawn in a tuning.

    Attributes:
      dimensions: a setting, or several with commas between -> what may be drawn.

    Raises:
      ConfigError: for a space of nothing, a dimension that is none, or a setting that stands in it twice.
    """

    dimensions: Mapping[str, Dimension]

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise ConfigError("the space is empty; name at least one setting to tune.")
        for name, dimension in self.dimensions.items():
            if not isinstance(dimension, Whole | Number | OneOf):
                raise ConfigError(
                    f"{name}: {dimension!r} is none of Whole(low, high), Number(low, high) and OneOf(values)."
                )
            if fault := dimension.fault() or _fault_of_parts(name, dimension):
                raise ConfigError(f"{name}: {dimension} cannot be drawn from: {fault}.")
        settings = self.settings()
        for setting in settings:
            if settings.count(setting) > 1:
                raise ConfigError(f"{setting} stands in the space twice; leave one out.")

    def settings(self) -> list[str]:
        """All settings that are drawn."""
        return [setting for name in self.dimensions for setting in _parts(name)]

    def read(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """What was drawn, setting by setting.

        Args:
          drawn: a value for every dimension.
        """
        found: dict[str, Any] = {}
        for name, value in drawn.items():
            parts = _parts(name)
            each = value if len(parts) > 1 and isinstance(value, tuple) else (value,) * len(parts)
            found |= dict(zip(parts, each, strict=True))
        return found

    def record(self) -> dict[str, Any]:
        """The space as JSON has it, to be compared with another."""
        return {
            name: {"kind": type(d).__name__, **{k: _plain(v) for k, v in dataclasses.asdict(d).items()}}
            for name, d in self.dimensions.items()
        }


def _parts(name: str) -> list[str]:
    return [part.strip() for part in name.split(",")]


def _fault_of_parts(name: str, dimension: Dimension) -> str:
    count = len(_parts(name))
    if count == 1 or not isinstance(dimension, OneOf):
        return ""
    wrong = [value for value in dimension.values if isinstance(value, tuple) and len(value) != count]
    return f"{wrong[0]} must have {count} parts, one for each setting" if wrong else ""


def _plain(value: Any) -> Any:
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def load_space(path: str) -> Space:
    """The space that ``PATH.py[:ARGUMENT]`` describes.

    Raises:
      ConfigError: if the file is missing or describes none.
    """
    match = re.fullmatch(r"(.*?\.py)(?::(.*))?", path)
    if not match:
        raise ConfigError(f"--space={path} is not a space file; give one such as configs/spaces/tfn.py.")
    space = configuration.call(pathlib.Path(match[1]), "get_space", match[2] or "", "a Space")
    if not isinstance(space, Space):
        raise ConfigError(f"{match[1]}: get_space returned {type(space).__name__}, not a Space.")
    return space


def check_space(space: Space, base: Config, overrides: Sequence[str] = ()) -> None:
    """Sees that every setting of a space is one of the configuration, and its values are of its kind.

    Values that only do not fit together are no mistake of the space: a trial that draws them fails, and says
    why. So an end is refused where it fits neither the configuration nor the space's own ends.

    Args:
      space: what is drawn.
      base: the configuration that it is drawn for.
      overrides: ``"KEY=VALUE"``, what the command line has set in it.

    Raises:
      ConfigError: for the first setting that is unknown, is not to be drawn or is set by hand too, and the
        first value that the setting cannot take.
    """
    by_hand = {override.partition("=")[0] for override in overrides}
    for setting in space.settings():
        if reason := NOT_DRAWN.get(setting):
            raise ConfigError(f"the space draws {setting}, which cannot be tuned: {reason}; leave it out.")
        if setting in by_hand:
            raise ConfigError(
                f"the space draws {setting}, so --config.{setting} has no effect; leave one out."
            )
    corners = [{name: d.ends()[end] for name, d in space.dimensions.items()} for end in (0, -1)]
    for name, dimension in space.dimensions.items():
        for value in dimension.ends():
            drawn = {name: value}
            fault = _fault_of(space, base, drawn)
            if fault and all(_fault_of(space, base, {**corner, **drawn}) for corner in corners):
                raise ConfigError(f"the space's {name}: {fault}") from fault


def _fault_of(space: Space, base: Config, drawn: Mapping[str, Any]) -> MsaJaxError | None:
    """Why the configuration cannot take what was drawn; None if it can."""
    try:
        check_values(configuration.changed(base, as_overrides(space.read(drawn))))
    except MsaJaxError as error:
        return error
    return None
