"""How features were made: one part per modality, stored with the data and with every run trained on it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from msa_jax.errors import DataError

#: The extractor of a modality that was left out.
NONE = "none"


@dataclasses.dataclass(frozen=True)
class Part:
    """How one modality's features were made.

    Attributes:
      extractor: "librosa33", "egemaps", "mediapipe", "openface", "bert", or "none" where it was left out.
      packages: name -> version of the packages that computed them.
      arguments: what was chosen, by name; JSON values.
      files: role -> SHA-256 sum of a model's file ("face-model", "encoder").
      columns: the names of the D columns, in their order; empty where they have none.
      groups: name -> columns, like ``"0-7"``.
      provenance: role -> where a model lay, and what made the transcripts. Not compared: a model is known by
        its sum, and the features of a given transcript do not tell who wrote it.
    """

    extractor: str
    packages: Mapping[str, str] = dataclasses.field(default_factory=dict)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Any) -> "Part":
        """Reads what ``dataclasses.asdict`` made of one and JSON stored.

        Raises:
          DataError: if it is no such record.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(record, dict) or not isinstance(record.get("extractor"), str):
            raise DataError("a recipe does not name its extractor")
        fields = {key: value for key, value in record.items() if key in known}
        for key, value in fields.items():
            if key not in ("extractor", "columns") and not isinstance(value, dict):
                raise DataError(f"a recipe's {key} are no table")
        fields["columns"] = tuple(map(str, fields.get("columns", ())))
        return cls(**fields)

    def title(self) -> str:
        """In words: ``"mediapipe (mediapipe 1.2.3; fps 10.0)"``."""
        packages = [f"{name} {version}" for name, version in self.packages.items()]
        arguments = [f"{name} {value}" for name, value in self.arguments.items()]
        inside = "; ".join(", ".join(part) for part in (packages, arguments) if part)
        return f"{self.extractor} ({inside})" if inside else self.extractor


Recipe = Mapping[str, Part]


def differences(trained: Recipe, found: Recipe) -> tuple[list[str], list[str]]:
    """What of ``found`` is not as it was ``trained`` on.

    A modality that either recipe does not name is not compared.

    Returns:
      What makes other features, and what should not: other third numbers of a package's version. Both are
      parts of a sentence, such as "audio: librosa 0.12.0, trained with 0.11.0".
    """
    grave: list[str] = []
    slight: list[str] = []
    for modality in trained:
        if modality not in found:
            continue
        for what, old, new in _unequal(trained[modality], found[modality]):
            line = f"{modality}: {what} {new}, trained with {old}"
            (slight if _same_release(old, new) else grave).append(line)
            if what == "extractor":  # the rest is another extractor's
                break
    return grave, slight


def _unequal(old: Part, new: Part) -> Iterator[tuple[str, Any, Any]]:
    if old.extractor != new.extractor:
        yield "extractor", old.extractor, new.extractor
    for field in ("packages", "arguments", "files"):
        before, after = getattr(old, field), getattr(new, field)
        for name in sorted({*before, *after}):
            a, b = before.get(name, "nothing"), after.get(name, "nothing")
            if a != b:
                short = field == "files"
                yield name, f"{a:.12}" if short else a, f"{b:.12}" if short else b
    if old.columns != new.columns:
        yield "columns", f"{len(old.columns)} of them", f"{len(new.columns)} others"


def _same_release(old: Any, new: Any) -> bool:
    """Whether two versions differ in the third number or behind it."""
    if not isinstance(old, str) or not isinstance(new, str):
        return False
    a, b = old.split(".")[:2], new.split(".")[:2]
    return len(a) == 2 and a == b and all(part.isdecimal() for part in a)
