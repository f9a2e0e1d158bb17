"""The figures that the papers print, by table: fractions under our metric names, MAE in label units."""

import functools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from msa_jax.reports import targets

#: Row -> metric -> value.
Figures = Mapping[tuple[str, ...], Mapping[str, float]]
CAI = "Cai et al. 2025"
ZHENG = "Zheng et al. 2024"


@functools.cache
def _all() -> dict[str, Any]:
    return json.loads((pathlib.Path(__file__).parent / "printed.json").read_text(encoding="utf-8"))


def figures(table: str) -> Figures:
    """The figures of a table.

    Args:
      table: such as "cai_table9". Rows there are (data set, variant); those of "zheng_table4" to
        "zheng_table8" are (data set, model, variant), with the variants "base" (the authors' reproduction),
        "-fg", "-a" and "-v".

    Raises:
      KeyError: if there is no such table.
    """
    return dict(_leaves((), _all()[table]))


def of_model(table: str, model: str) -> Figures:
    """The figures of a table whose rows name no model, with the model between data set and variant."""
    return {(data, model, *rest): values for (data, *rest), values in figures(table).items()}


def _leaves(path: tuple[str, ...], part: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if all(isinstance(value, float) for value in part.values()):
        yield path, part
        return
    for name, inner in part.items():
        yield from _leaves((*path, name), inner)


def models_of_cai() -> Figures:
    """Tables 3 to 5 of Cai et al. 2025: (data set, model) -> figures."""
    return targets.by_model()
