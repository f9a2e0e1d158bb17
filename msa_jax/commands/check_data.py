"""Reports what a feature pickle or a store holds and what is suspicious about it.

msa-jax check-data PATH [--split=by_group [--group=speaker] [--folds=5]] [--json]
"""

import argparse
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from msa_jax import messages, metrics
from msa_jax.commands.usage import Parser
from msa_jax.data.division import COLUMN_NAME, SPLIT_KINDS, STORED, VIDEO, Division
from msa_jax.data.inspection import check
from msa_jax.errors import ConfigError


def main(arguments: list[str]) -> int:
    """Prints the report; returns 0, whatever it says of usable data."""
    parser = Parser(
        "check-data",
        "Says what a feature pickle or a store holds and what is odd about it. Nothing in it is executed.",
        ["check-data unaligned_50.pkl", "check-data mine.pkl --split=by_group --folds=5"],
    )
    parser.add_argument("path", type=pathlib.Path, help="feature pickle or store")
    parser.add_argument(
        "--split",
        choices=SPLIT_KINDS,
        default=STORED,
        help="by_group: show the splits that data.split=by_group makes of all clips",
    )
    parser.add_argument("--group", help=f"with by_group: as data.group (default: {VIDEO})")
    parser.add_argument(
        "--folds", type=int, metavar="K", help="with by_group: as data.folds; all of them are shown"
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    options = parser.parse_args(arguments)
    messages.set_up(options, answers=True)
    report = check(options.path, _division(options))
    if absent := metrics.left_out(report["metrics"], tuple(report["label_range"])):
        report["notes"].append(absent)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        _show(report, Console(highlight=False, markup=False, soft_wrap=True))
    return 0


def _division(options: argparse.Namespace) -> Division | None:
    """What the arguments ask for.

    Raises:
      ConfigError: for those that do not go together.
    """
    if options.split == STORED:
        for flag, value in (("group", options.group), ("folds", options.folds)):
            if value is not None:
                raise ConfigError(f"--{flag}={value} is of divided clips; add --split=by_group.")
        return None
    group, folds = options.group or VIDEO, options.folds or 0
    if not COLUMN_NAME.fullmatch(group):
        raise ConfigError(f"--group={group!r:.80} names no column: letters, digits and _, a letter first.")
    if folds < 0 or folds == 1:
        raise ConfigError(f"--folds={folds} must be at least 2, or left out.")
    return Division(group, folds=folds)


def _show(report: Mapping[str, Any], console: Console) -> None:
    """Prints the report as tables."""
    low, high = report["label_range"]
    scores = f"scores {low:g} to {high:g}" if report["tasks"] else "no labels"
    console.print(f"{report['path']}: {report['kind']} of {report['name']!r}, {scores}")
    if report["tasks"]:
        console.print(f"metrics {report['metrics']}, tasks {' '.join(report['tasks'])}")
    console.print(f"token ids: {report['token_ids']}")
    if report["kind"] == "pickle":
        console.print(
            f"SHA-256 {report['sha256']}: {report['public_file'] or 'none of the five public files'}"
        )
    _show_modalities(report, console)
    first = next(iter(report["splits"]))
    if report["tasks"]:
        _show_labels(report, first, console)
    if report["splits"][first]["classes"]:
        _show_classes(report, console)
    for m, groups in report["groups"].items():
        if groups:
            _show_groups(report, first, m, console)
    if "division" in report:
        _show_division(report["division"], console)
    for note in report["notes"]:
        console.print(f"note: {note}")
    for warning in report["warnings"]:
        console.print(f"warning: {warning}", style="yellow")
    if not report["warnings"]:
        console.print("nothing suspicious found.", style="green")


def _table(*titles: str, title: str | None = None) -> Table:
    return Table(*titles, title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _show_modalities(report: Mapping[str, Any], console: Console) -> None:
    titles = (
        "split",
        "modality",
        "clips, steps, columns",
        "real steps min/median/max",
        "NaN",
        "inf",
        "constant",
    )
    table = _table(*titles)
    for name, split in report["splits"].items():
        for m, facts in split["modalities"].items():
            shape = ", ".join(map(str, facts["shape"]))
            real = f"{'/'.join(map(str, facts['lengths'][::2]))} ({facts['real_share']:.0%})"
            table.add_row(name, m, shape, real, *_faults(facts, len(facts["constant_columns"])))
    console.print(table)


def _show_labels(report: Mapping[str, Any], first: str, console: Console) -> None:
    some = next(iter(report["splits"][first]["labels"].values()))
    table = _table("split", "task", "mean", *some["histogram"])
    for name, split in report["splits"].items():
        for task, facts in split["labels"].items():
            table.add_row(name, task, f"{facts['mean']:.2f}", *map(str, facts["histogram"].values()))
    console.print(table)


def _show_classes(report: Mapping[str, Any], console: Console) -> None:
    table = _table("split", "task", *report["class_names"], title="class labels")
    for name, split in report["splits"].items():
        for task, counts in split["classes"].items():
            table.add_row(name, task, *map(str, counts.values()))
    console.print(table)


def _show_groups(report: Mapping[str, Any], first: str, m: str, console: Console) -> None:
    titles = ("group", "columns", "lowest", "highest", "NaN", "inf", "constant")
    table = _table(*titles, title=f"{first} {m}")
    for name, facts in report["splits"][first]["modalities"][m]["groups"].items():
        spread = ("-" if facts[key] is None else f"{facts[key]:.4g}" for key in ("low", "high"))
        table.add_row(name, facts["columns"], *spread, *_faults(facts, facts["constant"]))
    console.print(table)


def _show_division(division: Mapping[str, Any], console: Console) -> None:
    tasks = list(division["parts"][0]["label_mean"])
    fold = ["fold"] * bool(division["folds"])
    title = f"{division['groups']} groups by {division['group']}"
    table = _table(*fold, "split", "clips", "groups", *(f"mean {task}" for task in tasks), title=title)
    for part in division["parts"]:
        means = (f"{part['label_mean'][task]:.2f}" for task in tasks)
        first = [str(part["fold"])] * bool(fold)
        table.add_row(*first, part["split"], str(part["clips"]), str(part["groups"]), *means)
    console.print(table)
    console.print(f"groups that lie in two splits: {division['crossing'] or 'none'}")


def _faults(facts: Mapping[str, Any], constant: int) -> list[str]:
    return [str(count) for count in (facts["nan"], facts["infinite"], constant)]
