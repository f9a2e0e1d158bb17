"""What a run shows: a progress bar on a terminal, a line per epoch, a table of scores."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from msa_jax import messages
from msa_jax.messages import LOGGER


class Display:
    """Shows one run, as far as messages are shown at all.

    Args:
      label: in front of its lines, for one of several runs at once, which have no bars.
    """

    def __init__(self, label: str = ""):
        self.label = label
        self.console = Console(quiet=messages.quiet(), highlight=False)
        self._bar: Progress | None = None
        self._task = None
        self._clips, self._since = 0, time.perf_counter()

    def start_epoch(self, epoch: int, epochs: int, steps: int, done: int) -> None:
        """Opens the epoch's bar at ``done`` of ``steps`` steps."""
        self._clips, self._since = 0, time.perf_counter()
        if not self.console.is_terminal or self.console.quiet or self.label:
            return
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[rate]:.0f} samples/s"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._bar.start()
        fields = {"epoch": f"{epoch}/{epochs}", "loss": float("nan"), "rate": 0.0}
        self._task = self._bar.add_task("", total=steps, completed=done, **fields)

    def samples_per_second(self) -> float:
        """Clips per second since the epoch (or this sitting's part of it) began."""
        return self._clips / max(time.perf_counter() - self._since, 1e-9)

    def advance(self, steps: int, clips: int, loss: float) -> None:
        """Moves the bar by a finished chunk."""
        self._clips += clips
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=steps, loss=loss, rate=self.samples_per_second())

    def close_bar(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def end_epoch(self, row: Mapping, monitor: str, best: bool) -> None:
        """One line per epoch: losses, the validation score that picks, and the speed."""
        rate = self.samples_per_second()
        self.close_bar()
        LOGGER.info(
            f"{self.label}epoch {row['epoch']:3d}  train loss {row['train']['loss']:.4f}"
            f"  valid loss {row['valid']['loss']:.4f}"
            f"  valid {monitor} {row['valid'][monitor]:.4f}{' *' if best else '  '}  {rate:.0f} samples/s"
        )


def print_scores(title: str, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Prints a table: a row per metric, a column per source of figures."""
    table = Table(title=title)
    table.add_column("metric")
    for name in columns:
        table.add_column(name, justify="right")
    first = next(iter(columns.values()))
    for metric in first:
        cells = [f"{c[metric]:.4f}" if c.get(metric) is not None else "-" for c in columns.values()]
        table.add_row(metric, *cells)
    Console(highlight=False).print(table)
