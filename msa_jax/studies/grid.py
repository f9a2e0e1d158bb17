"""A study as a grid: axes whose choices multiply into cells, each of which is one run.

A study file, ``configs/studies/NAME.py``, is plain Python with ``get_study(argument) -> Study``:

    def get_study(argument):
        asked = read_argument(argument, data=("mosi", "sims"))
        return Study(
            "What fine-grained extraction is worth",
            grid(asked.data, models("tfn", "mult"), words({"base": "", "-fg": "fg=both"}), seeds(5)),
            base={"variant": "base"},
        )

Grids are lists of cells, so that ``grid(...) + grid(...)`` puts two of them into one table.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msa_jax.configuration import Config, load
from msa_jax.data.division import BY_GROUP
from msa_jax.errors import ConfigError, MsaJaxError

#: The customary seeds begin here: 1111 to 1115.
FIRST_SEED = 1111
#: The axis whose choices are averaged over; all others make the rows of a table.
SEED = "seed"
#: The stored text features, in place of an encoder that is trained.
FROZEN = "frozen"
#: The axis of folds, and what stands there in the row that is measured on all folds together.
FOLD, POOLED = "fold", "pooled"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One choice on an axis.

    Attributes:
      axis: its name: data, model, variant, fold, seed, or a setting's.
      name: as tables show it.
      config: the configuration file, from the axis of data sets.
      words: what it adds after the configuration's colon, such as "tfn" or "fg=both".
      settings: the settings that it changes, such as {"train.seed": 1112}.
    """

    axis: str
    name: str
    config: str = ""
    words: tuple[str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


#: The choices of one axis.
Axis = Sequence[Choice]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
      labels: the chosen name on every axis, in the order of the grid.
      config: ``PATH.py:ARGUMENT``.
      settings: setting -> value.
    """

    labels: Mapping[str, str]
    config: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of its folder: the labels in letters that every file system takes."""
        return "-".join(_plain(label) for label in self.labels.values())

    @property
    def row(self) -> tuple[str, ...]:
        """The labels of all axes but the seed: cells that share them make one row of a table."""
        return tuple(label for axis, label in self.labels.items() if axis != SEED)

    @property
    def tiny(self) -> bool:
        """Whether it is a try, with small widths and two epochs."""
        return "tiny" in self.config.partition(":")[2].split(",")

    @property
    def folds(self) -> int:
        """How many folds there are, where the cell is one of them; else 0."""
        return self.settings.get("data.folds", 0) if FOLD in self.labels else 0

    @property
    def pooled_row(self) -> tuple[str, ...]:
        """The labels of the row of all folds that the cell belongs to; () where it is no fold."""
        labels = self.labels.items() if self.folds else ()
        return tuple(POOLED if axis == FOLD else label for axis, label in labels if axis != SEED)

    def overrides(self) -> list[str]:
        """The settings as the command line has them, ``"train.seed=1112"``."""
        return as_overrides(self.settings)


@dataclasses.dataclass(frozen=True)
class Study:
    """A declared grid and how its table is read.

    Attributes:
      title: a line.
      cells: see :func:`grid`.
      base: the choices that others are compared with, such as {"model": "tfn"}; every row is compared with
        the one that differs from it in these alone. Empty for no comparison.
      targets: printed figures: the row -> metric -> value, fractions as in ``result.json``.
      source: of the targets, for the table's heading.
      note: a sentence or two below the table.
    """

    title: str
    cells: Sequence[Cell]
    base: Mapping[str, str] = dataclasses.field(default_factory=dict)
    targets: Mapping[tuple[str, ...], Mapping[str, float]] = dataclasses.field(default_factory=dict)
    source: str = ""
    note: str = ""

    def axes(self) -> tuple[str, ...]:
        """The names of the axes, the seed's left out."""
        return tuple(axis for axis in self.cells[0].labels if axis != SEED)

    def rows(self) -> list[tuple[str, ...]]:
        """Every row once, in the order of the cells; behind its last fold comes the row of all folds."""
        last = {cell.pooled_row: cell.row for cell in self.cells if cell.folds}
        behind = {row: pooled for pooled, row in last.items()}
        single = dict.fromkeys(cell.row for cell in self.cells)
        return [row for one in single for row in (one, behind.get(one)) if row is not None]

    def cells_of(self, row: tuple[str, ...]) -> list[Cell]:
        """The cells that make a row."""
        return [cell for cell in self.cells if row in (cell.row, cell.pooled_row)]

    def base_of(self, row: tuple[str, ...]) -> tuple[str, ...] | None:
        """The row that ``row`` is compared with; None for a base itself, or where there is none."""
        base = tuple(self.base.get(axis, label) for axis, label in zip(self.axes(), row, strict=True))
        return base if self.base and base != row and base in self.rows() else None


class Argument(NamedTuple):
    """What stands after a study's colon.

    Attributes:
      data: the axis of data sets.
      tiny: small widths, two epochs and two seeds, for a try.
      encoder: see :func:`models`.
    """

    data: Axis
    tiny: bool
    encoder: str


def read_argument(argument: str, data: Sequence[str], encoder: bool = False) -> Argument:
    """Reads ``"mosi,encoder=bert-base-uncased"``, or ``"synthetic,tiny"``.

    Args:
      argument: data sets (names of configurations) in place of the study's own, tiny, and what text the
        models read that train a text encoder: its folder, or "frozen" for the stored features.
      data: the study's own data sets.
      encoder: whether the study has such models.

    Raises:
      ConfigError: for a word that is none of these.
    """
    from msa_jax import configuration

    known = [path.stem for path in configuration.shipped()]
    chosen, tiny, texts = [], False, ""
    for word in filter(None, argument.split(",")):
        if word in known or word.endswith(".py"):
            chosen.append(word)
        elif word == "tiny":
            tiny = True
        elif encoder and (word == FROZEN or word.removeprefix("encoder=") not in (word, "")):
            texts = word.removeprefix("encoder=")
        else:
            others = ", ".join([*known, "tiny", *[FROZEN, "encoder=DIR"] * encoder])
            raise ConfigError(
                f"{word!r} after the study's colon is unknown; it takes {others} or a configuration file."
            )
    return Argument(data_sets(*(chosen or data)), tiny, texts)


def data_sets(*names: str) -> Axis:
    """An axis of data sets: "mosi", or a configuration file of your own."""
    files = {name: name if name.endswith(".py") else f"configs/{name}.py" for name in names}
    return [Choice("data", _stem(name), config=file) for name, file in files.items()]


def models(*names: str, encoder: str = "") -> Axis:
    """An axis of models, by our names.

    Args:
      names: of the models.
      encoder: for those that train a text encoder by default: its folder, or "frozen" for the data's stored
        text features in its place. "": as each is configured.
    """
    return [Choice("model", name, words=(name,), settings=_texts_of(name, encoder)) for name in names]


def _texts_of(model: str, encoder: str) -> dict[str, Any]:
    from msa_jax.models import block, declaration  # here, not at the top: it takes JAX, and seconds

    if not encoder or block(model, next(iter(declaration(model).presets))).get("text_encoder") != "finetune":
        return {}
    return {"model.text_encoder": FROZEN} if encoder == FROZEN else {"model.encoder.folder": encoder}


def words(by_name: Mapping[str, str], axis: str = "variant") -> Axis:
    """An axis of what stands after the configuration's colon, such as {"base": "", "-fg": "fg=both"}."""
    return [Choice(axis, name, words=tuple(filter(None, text.split(",")))) for name, text in by_name.items()]


def variants(by_name: Mapping[str, Mapping[str, Any]], axis: str = "variant") -> Axis:
    """An axis of settings, such as {"complete": {}, "without convolutions": {"model.use_conv": False}}."""
    return [Choice(axis, name, settings=dict(settings)) for name, settings in by_name.items()]


def values(key: str, *of: Any) -> Axis:
    """An axis of one setting's values, such as ``values("train.batch_size", 16, 32, 64)``."""
    return [Choice(key, _as_text(value), settings={key: value}) for value in of]


def seeds(count: int, first: int = FIRST_SEED) -> Axis:
    """An axis of seeds, 1111 and those that follow."""
    return [Choice(SEED, str(seed), settings={"train.seed": seed}) for seed in range(first, first + count)]


def folds(count: int) -> Axis:
    """An axis of folds by groups (``data.folds``): each is tested once, and a table has their pooled row too.

    Raises:
      ConfigError: for fewer than two.
    """
    if count < 2:
        raise ConfigError(f"folds={count}: at least 2.")
    of_all = {"data.split": BY_GROUP, "data.folds": count}
    return [Choice(FOLD, str(fold), settings={**of_all, "data.fold": fold}) for fold in range(count)]


def grid(*axes: Axis, tiny: bool = False, settings: Mapping[str, Any] | None = None) -> list[Cell]:
    """All combinations of the axes' choices, the first axis slowest.

    Args:
      axes: one of them of data sets.
      tiny: small widths, two epochs, one padded shape, and no more than two seeds.
      settings: of every cell, where its choices do not say otherwise.

    Raises:
      ConfigError: if no axis names data sets, or two axes have one name.
    """
    names = [axis[0].axis for axis in axes if axis]
    if len(set(names)) < len(names):
        raise ConfigError(f"a grid has two axes of one name ({', '.join(names)}); give one another name.")
    if tiny:
        axes = tuple(axis[:2] if axis and axis[0].axis == SEED else axis for axis in axes)
    cells = []
    for chosen in itertools.product(*axes):
        files = [choice.config for choice in chosen if choice.config]
        if len(files) != 1:
            raise ConfigError(f"a grid needs one axis of data sets; this one has {len(files)}.")
        argument = [word for choice in chosen for word in choice.words] + ["tiny"] * tiny
        # One padded shape is half as much to compile as two.
        merged = ({"data.buckets": 1} if tiny else {}) | dict(settings or {})
        for choice in chosen:
            merged |= choice.settings
        labels = {choice.axis: choice.name for choice in chosen}
        cells.append(Cell(labels, f"{files[0]}:{','.join(argument)}".rstrip(":"), merged))
    return cells


def of_seeds(path: str, config: Config, count: int, fold_count: int = 0) -> Study:
    """Several seeds of one configuration as a study, of every fold where there are folds.

    Args:
      path: of the configuration, ``PATH.py[:ARGUMENT]``.
      config: what it gives; its seed is the first.
      count: how many seeds.
      fold_count: how many folds; 0 for none.

    Raises:
      ConfigError: for a count below 1, or a single fold.
    """
    if count < 1:
        raise ConfigError(f"--seeds={count}: at least 1.")
    file, _, argument = path.partition(":")
    axes = [
        [Choice("data", _stem(file), config=file, words=(argument,) if argument else ())],
        [Choice("model", config.model.name)],
        *([folds(fold_count)] if fold_count else []),
        seeds(count, config.train.seed),
    ]
    many = f"{path}, {count} seeds" if count > 1 else path
    return Study(f"{many}, {fold_count} folds" if fold_count else many, grid(*axes))


def checked(study: Study, overrides: Sequence[str] = ()) -> dict[str, tuple[Cell, Config]]:
    """Every cell's configuration, by the name of its folder.

    Args:
      study: as declared.
      overrides: ``"train.epochs=3"``, for all cells.

    Raises:
      ConfigError: for a study without cells, two cells of one name, a setting that is unknown or holds a
        value of another type, or a base that is no row.
    """
    if not study.cells:
        raise ConfigError(f"the study {study.title!r} has no cells; one of its axes is empty.")
    made: dict[str, tuple[Cell, Config]] = {}
    axes = study.axes()
    for cell in study.cells:
        if tuple(axis for axis in cell.labels if axis != SEED) != axes:
            raise ConfigError(
                f"the cells of a study must have the same axes; {cell.name} has others than {axes}."
            )
        if cell.name in made:
            raise ConfigError(
                f"the study has two cells of the name {cell.name}; rename a choice of one axis."
            )
        try:
            made[cell.name] = cell, load(cell.config, [*cell.overrides(), *overrides])
        except MsaJaxError as error:
            raise ConfigError(f"cell {cell.name}: {error}") from error
    if study.base and not any(study.base_of(row) for row in study.rows()):
        raise ConfigError(f"no row of the study differs from the base {dict(study.base)} by that alone.")
    return made


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings as the command line has them, ``"train.seed=1112"``."""
    return [f"{key}={_as_text(value)}" for key, value in settings.items()]


def _plain(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+]+", "_", label).strip("_.") or "_"


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".py")


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
