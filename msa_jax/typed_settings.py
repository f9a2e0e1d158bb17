"""What a setting may be: dataclasses whose types say it, and the configuration blocks made from them.

A block of the configuration (``config.model``) is made from an instance of such a dataclass and read back
into one. A field's type is its rule: ``Count`` is a whole number of at least 1, ``Rate`` a rate of dropout, a
``Literal`` one of its words, a dataclass a block inside the block.
"""

import dataclasses
import functools
import math
import typing
from typing import Annotated, Any, Literal, TypeVar

from msa_jax import configuration
from msa_jax.configuration import Config, require_choice
from msa_jax.errors import ConfigError, nearest

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Range:
    """Finite numbers between two bounds.

    Attributes:
      least: the lower bound.
      most: the upper bound.
      above: whether the lower bound itself is left out.
      below: whether the upper one is.
    """

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number lies within the bounds; NaN and infinity never do."""
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below else value <= self.most
        return math.isfinite(value) and low and high

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.least:g}"
        if self.most == math.inf:
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.most:g}"


#: How many, or how wide.
Count = Annotated[int, Range(1)]
#: The same, where 0 has a meaning of its own, which the field's comment tells.
CountOrZero = Annotated[int, Range(0)]
#: A rate of dropout.
Rate = Annotated[float, Range(0, 1, below=True)]
#: A part of a whole.
Share = Annotated[float, Range(0, 1)]
#: A weight or a rate of learning.
Factor = Annotated[float, Range(0)]
#: The same, where 0 makes no sense.
Positive = Annotated[float, Range(0, above=True)]

_ONE = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}
_MANY = {int: "whole numbers", float: "numbers", bool: "values of true or false", str: "words"}
_NUMERALS = {2: "two", 3: "three", 4: "four"}


def block_of(settings: Any) -> Config:
    """The block of a configuration that holds these settings, nested ones as blocks inside it."""
    return configuration.block(dataclasses.asdict(settings))


def read(kind: type[S], block: Config, name: str) -> S:
    """Checks a block and fills the dataclass ``kind``, whose fields are the block's keys.

    A key that the block lacks takes the field's default: the block is of a run that is older than the
    field. (So a new field's default must be what was done before it.)

    Args:
      kind: the dataclass; its ``__post_init__`` may check what several fields must be together.
      block: of a configuration.
      name: of the block, for messages: "model".

    Raises:
      ConfigError: for a key that is no field, or a value that is none of its type.
    """
    hints = _hints(kind)
    for key in block:
        if key not in hints:
            raise ConfigError(f"{name}.{key}: there is no such key.{nearest(key, hints)}")
    return kind(**{k: _checked(f"{name}.{k}", block[k], hint) for k, hint in hints.items() if k in block})


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _checked(name: str, value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return read(hint, value, name)  # type: ignore[arg-type]
    if typing.get_origin(hint) is Literal:
        require_choice(name, value, typing.get_args(hint))
        return value
    if typing.get_origin(hint) is tuple:
        return _checked_tuple(name, value, typing.get_args(hint))
    kind, rule = _rule(hint)
    if not _is_a(kind, value):
        raise ConfigError(f"{name}={value!r} must be {_ONE[kind]}.")
    if rule and not rule.holds(value):
        raise ConfigError(f"{name}={value} must be {rule}.")
    return value


def _checked_tuple(name: str, value: Any, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tuple whose elements are all of one type."""
    kind, rule = _rule(hints[0])
    values = tuple(value) if isinstance(value, (tuple, list)) else ()
    fit = all(_is_a(kind, x) and (rule is None or rule.holds(x)) for x in values)
    if len(values) != len(hints) or not fit:
        wanted = f"{_NUMERALS[len(hints)]} {_MANY[kind]}{f' of {rule}' if rule else ''}"
        raise ConfigError(f"{name}={value} must be {wanted}.")
    return values


def _rule(hint: Any) -> tuple[type, Range | None]:
    if typing.get_origin(hint) is Annotated:
        kind, rule = typing.get_args(hint)
        return kind, rule
    return hint, None


def _is_a(kind: type, value: Any) -> bool:
    """Whether a value is of a type; a whole number is a number too, but true and false are not."""
    return type(value) in ((int, float) if kind is float else (kind,))
