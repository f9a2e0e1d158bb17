"""What ``msa-jax robustness`` leaves in a run's folder: ``robustness/PROTOCOL/robustness.csv``."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence

#: The folder in a run's, with a folder per protocol, and the file there.
FOLDER, FILE = "robustness", "robustness.csv"
#: Columns in front of the shares lost and the metrics.
COLUMNS = ("model", "seed", "changed", "condition", "rate")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a run reached under one protocol.

    Attributes:
      protocol: its name.
      curves: what is changed -> its points in their order, by column.
    """

    protocol: str
    curves: Mapping[str, Sequence[Mapping[str, str]]]


def parse(protocol: str, content: bytes) -> Measured:
    """Reads the file.

    Raises:
      ValueError: if it is not what the command writes.
    """
    curves: dict[str, list[Mapping[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(content.decode(), newline="")):
        if lacking := [key for key in COLUMNS if not isinstance(row.get(key), str)]:
            raise ValueError(f"it lacks {lacking[0]}")
        curves.setdefault(row["changed"], []).append(row)
    if not curves:
        raise ValueError("it has no line")
    return Measured(protocol, curves)
