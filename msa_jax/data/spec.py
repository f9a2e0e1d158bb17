"""What a data set is: its modalities, labels and metrics, as one frozen record.

Shape legend of the whole package: B batch, T time, D feature width, H hidden width, K heads,
N clips of a split. Masks are bool, True = real step, and real steps come first.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from msa_jax.data.recipe import Part, Recipe
from msa_jax.errors import DataError

MODALITIES = ("text", "audio", "vision")
#: Label names: M is the clip's own (multimodal) score, the others judge one modality alone.
UNIMODAL_TASKS = {"text": "T", "audio": "A", "vision": "V"}
SPLITS = ("train", "valid", "test")
METRIC_SETS = ("mosi", "sims", "plain")
#: The classes of sentiment, by number.
THREE_CLASSES = ("negative", "neutral", "positive")
TWO_CLASSES = ("negative", "positive")
#: Between which scores a clip counts as neutral: as the set's Acc-3 does, which rounds on CMU-MOSI.
_CLASS_EDGES = {"mosi": (-0.5, 0.5), "sims": (-0.1, 0.1)}
_MAX_COLUMNS = 1_000_000


def has_centre(label_range: tuple[float, float]) -> bool:
    """Whether scores have a sign: whether 0 lies inside their range."""
    return label_range[0] < 0 < label_range[1]


def edges_of(metrics: str, label_range: tuple[float, float]) -> tuple[float, float] | None:
    """The scores between which a clip is neutral; None where scores do not tell."""
    return _CLASS_EDGES.get(metrics) if has_centre(label_range) else None


def parse_columns(text: str) -> tuple[int, ...]:
    """Reads a column list such as ``"0-7,12"`` (0-based, both ends included).

    Raises:
      DataError: if the text is not such a list.
    """
    columns: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        try:
            start, end = int(first), int(last or first)
            if end - start > _MAX_COLUMNS:  # a damaged file must not fill the memory
                raise ValueError
            columns.extend(range(start, end + 1))
        except ValueError:
            raise DataError(f"{text!r} is not a column list; write it like '0-7,12'.") from None
    return tuple(columns)


def format_columns(columns: tuple[int, ...]) -> str:
    """The inverse of :func:`parse_columns`: ``(0, 1, 2, 5)`` gives ``"0-2,5"``."""
    runs: list[list[int]] = []
    for column in columns:
        if runs and column == runs[-1][1] + 1:
            runs[-1][1] = column
        else:
            runs.append([column, column])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


@dataclasses.dataclass(frozen=True)
class ModalitySpec:
    """One modality of a data set.

    Attributes:
      width: D, the number of feature columns.
      length: T, the number of stored steps (the longest clip or more).
      groups: named column groups (sub-features); empty when nobody knows what the columns are.
      mean: per column, over the real steps of the training split; empty when not fitted.
      std: the same for the standard deviation; 1 where a column is constant.
      absent: clips of the training split without a step of it; None where nobody counted.
    """

    width: int
    length: int
    groups: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    absent: int | None = None

    def __post_init__(self):
        used: set[int] = set()
        for name, columns in self.groups.items():
            outside = [c for c in columns if not 0 <= c < self.width]
            if not columns or outside:
                raise DataError(
                    f"column group {name!r} asks for columns {format_columns(columns)!r}, but there are "
                    f"only columns 0 to {self.width - 1}; correct the group in the configuration."
                )
            if used & set(columns) or len(set(columns)) < len(columns):
                raise DataError(f"column group {name!r} repeats a column; a column belongs to one group.")
            used |= set(columns)

    def group_slices(self) -> list[tuple[int, ...]]:
        """The groups' columns, in the order of the groups."""
        return list(self.groups.values())


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Everything that models, metrics and reports need to know of a data set.

    Attributes:
      name: a short name, for tables.
      modalities: by name, in the order text, audio, vision.
      label_range: lowest and highest possible score.
      metrics: the metric set: "mosi" (also MOSEI), "sims", or "plain" for scores of any other kind.
      tasks: ("M",) or ("M", "T", "A", "V") where each modality has a label of its own.
      counts: clips per split.
      has_tokens: whether the text's token ids are there.
      context: how many utterances before a clip its tokens may hold (:mod:`msa_jax.data.context`).
      class_edges: scores below the first are called negative, above the second positive, the rest
        neutral; None where a score says nothing of the kind.
      class_names: of the class labels, by number; empty where the data has none.
      synthetic: whether the clips were made by a program.
      recipe: how the features of each modality were made, where that is known.
    """

    name: str
    modalities: Mapping[str, ModalitySpec]
    label_range: tuple[float, float]
    metrics: str
    tasks: tuple[str, ...] = ("M",)
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    has_tokens: bool = False
    context: int = 0
    class_edges: tuple[float, float] | None = (0.0, 0.0)
    class_names: tuple[str, ...] = ()
    synthetic: bool = False
    recipe: Recipe = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.metrics not in METRIC_SETS:
            raise DataError(
                f"unknown metric set {self.metrics!r}; the known ones are {', '.join(METRIC_SETS)}."
            )
        if tuple(self.modalities) != MODALITIES:
            raise DataError(
                f"a data set has the modalities {', '.join(MODALITIES)}; found {', '.join(self.modalities)}."
            )

    def to_json(self) -> str:
        """The record as indented JSON; column groups are written like ``"0-7,12"``."""
        record = dataclasses.asdict(self)
        for modality in record["modalities"].values():
            modality["groups"] = {k: format_columns(tuple(v)) for k, v in modality["groups"].items()}
        return json.dumps(record, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "DatasetSpec":
        """Reads what :meth:`to_json` wrote, of any version: what we do not know is left out.

        Raises:
          DataError: if the text is not such a record.
        """
        try:
            record: dict[str, Any] = json.loads(text)
            modalities = {}
            for name, modality in record.pop("modalities").items():
                groups = {k: parse_columns(v) for k, v in modality["groups"].items()}
                mean, std = tuple(modality["mean"]), tuple(modality["std"])
                absent = modality.get("absent")  # which earlier versions did not count
                modalities[name] = ModalitySpec(
                    modality["width"], modality["length"], groups, mean, std, absent
                )
            known = {field.name for field in dataclasses.fields(cls)} & record.keys()
            fields = {key: _as_tuple(record[key]) for key in known}
            fields["recipe"] = {m: Part.from_record(part) for m, part in record.get("recipe", {}).items()}
            return cls(modalities=modalities, **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"this is not the description of a data set ({error}); convert the data again."
            ) from error


def _as_tuple(value: Any) -> Any:
    """JSON has lists where the record has tuples."""
    return tuple(value) if isinstance(value, list) else value
