"""Progress on stderr: bars on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from dfq_deploy.cli.shell import Shell
from dfq_deploy.progress import SILENT, Progress

__all__ = ["display"]


@contextmanager
def display(shell: Shell) -> Iterator[Progress]:
    """Progress as the common options and the terminal allow: bars, lines, or nothing with ``--quiet``."""
    console = Console(file=sys.stderr)
    if shell.quiet:
        yield SILENT
    elif console.is_terminal:
        with _bars(console) as bars:
            shown = _OnTerminal(bars)
            yield shown
            shown.finish()
    else:
        lines = _Lines(console)
        yield lines
        lines.finish()


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("[dim]{task.fields[figures]}"),
        console=console,
    )


class _OnTerminal(Progress):
    """One bar for each task; finished ones stay."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.task: TaskID | None = None

    def start(self, task: str, total: int) -> None:
        self.finish()
        self.task = self.bars.add_task(task, total=total or None, figures="")

    def advance(self, steps: int = 1, **figures: float) -> None:
        if self.task is None:
            return
        self.bars.advance(self.task, steps)
        if figures:
            self.bars.update(self.task, figures=_format_figures(figures))

    def finish(self) -> None:
        """Show the running task as complete."""
        if self.task is not None:
            task = self.bars.tasks[self.bars.task_ids.index(self.task)]
            self.bars.update(self.task, total=task.completed or 1, completed=task.completed or 1)
            self.bars.stop_task(self.task)
            self.task = None


class _Lines(Progress):
    """One line for each finished task, for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.task = ""

    def start(self, task: str, total: int) -> None:
        self.finish()
        self.task, self.steps, self.started, self.figures = task, 0, time.perf_counter(), ""

    def advance(self, steps: int = 1, **figures: float) -> None:
        self.steps += steps
        self.figures = _format_figures(figures) or self.figures

    def finish(self) -> None:
        """Print the line of the running task."""
        if self.task:
            seconds = time.perf_counter() - self.started
            line = f"{self.task}: {self.steps} in {seconds:.1f} s  {self.figures}".rstrip()
            self.console.print(line, soft_wrap=True, markup=False, highlight=False)
            self.task = ""


def _format_figures(figures: Mapping[str, float]) -> str:
    """``name 0.123`` for each figure."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())
