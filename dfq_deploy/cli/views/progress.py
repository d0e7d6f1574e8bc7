"""Progress on stderr: bars on a terminal, lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dfq_deploy.cli.shell import Shell
from dfq_deploy.cli.views.tables import duration
from dfq_deploy.errors import printable
from dfq_deploy.progress import SILENT, Progress

__all__ = ["display"]

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""

SETTLED = 1.0
"""Seconds of a task after which its pace counts: what a resumed run had finished before is reported at once."""

NAME, BAR, LEAST_BAR, PERCENT, LEFT, TAKEN = 22, 24, 8, 5, 16, 12
"""Widths of columns, in characters; a name may be longer where there is room."""


@contextmanager
def display(shell: Shell) -> Iterator[Progress]:
    """Progress as the common options and the terminal allow: bars, lines, or nothing with ``--quiet``."""
    console = Console(file=sys.stderr)
    if shell.quiet:
        yield SILENT
    elif console.is_terminal:
        with _Bars(console=console) as bars:
            shown = _OnTerminal(bars)
            yield shown
            shown.finish()
    else:
        lines = _Lines(console)
        try:
            yield lines
            lines.finish()
        finally:
            lines.close()


@dataclass
class _Pace:
    """How far a task is, and how long the rest of it takes.

    Args:
        total: of the steps; 0 if it is not known.
    """

    total: int
    started: float = field(default_factory=time.perf_counter)
    done: int = 0
    first: tuple[float, int] | None = None

    def advance(self, steps: int) -> None:
        """Count steps."""
        self.done += steps
        now = time.perf_counter()
        if self.first is None or now - self.started < SETTLED:
            self.first = (now, self.done)

    @property
    def taken(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def percent(self) -> str:
        """How much is done; empty if the total is not known."""
        return f"{min(100, 100 * self.done // self.total)} %" if self.total else ""

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes at the pace so far; None while that is not known."""
        if self.first is None or not self.total:
            return None
        since, before = self.first
        steps = self.done - before
        return (time.perf_counter() - since) / steps * max(0, self.total - self.done) if steps > 0 else None


class _Bars(Bars):
    """One row for each task. A narrow terminal drops the figures first, then times, and the bar last."""

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """The rows."""
        rows = list(tasks)
        if not rows:  # also before the console is known
            return Table.grid()
        widths = _column_widths(self.console.width, [str(task.description) for task in rows])
        table = Table.grid(padding=(0, 1))
        for width in widths.values():
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        for task in rows:
            cells = _cells(task, widths)
            table.add_row(*(cells[name] for name in widths))
        return table


def _column_widths(width: int, names: list[str]) -> dict[str, int]:
    """Columns that fit into ``width`` characters, with their widths, in the order in which they are shown."""
    name = min(max((cell_len(text) for text in names), default=0), NAME if width < 100 else 2 * NAME, width // 2)
    widths = {"name": name, "percent": PERCENT}
    room = width - name - PERCENT - 2
    bar = max(LEAST_BAR, min(BAR, room - LEFT - TAKEN - 3))
    for column, wanted in (("bar", bar), ("left", LEFT), ("taken", TAKEN)):
        if room > wanted:
            widths[column] = wanted
            room -= wanted + 1
    if room > 16:
        widths["figures"] = room - 1
    order = ("name", "bar", "percent", "taken", "left", "figures")
    return {column: widths[column] for column in order if column in widths}


def _cells(task: Task, widths: Mapping[str, int]) -> dict[str, Text | ProgressBar]:
    pace: _Pace = task.fields["pace"]
    taken = task.finished_time if task.finished_time is not None else pace.taken
    left = None if task.finished else pace.left
    total = None if task.total is None else max(1.0, task.total)
    return {
        "name": Text(printable(str(task.description))),
        "bar": ProgressBar(
            total, task.completed, widths.get("bar"), total is None, complete_style="cyan", finished_style="green"
        ),
        "percent": Text("100 %" if task.finished else pace.percent, justify="right"),
        "taken": Text(duration(taken), justify="right"),
        "left": Text("" if left is None else f"{duration(left)} left", "dim"),
        "figures": Text(_format_figures(task.fields["figures"], widths.get("figures")), "dim"),
    }


class _OnTerminal(Progress):
    """One bar for each task; finished ones stay."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.task: TaskID | None = None

    def start(self, task: str, total: int) -> None:
        self.finish()
        self.pace = _Pace(total)
        self.task = self.bars.add_task(task, total=total or None, figures={}, pace=self.pace)

    def advance(self, steps: int = 1, **figures: float) -> None:
        if self.task is None:
            return
        self.pace.advance(steps)
        self.bars.advance(self.task, steps)
        if figures:
            self.bars.update(self.task, figures=figures)

    def finish(self) -> None:
        """Show the running task as complete."""
        if self.task is not None:
            task = self.bars.tasks[self.bars.task_ids.index(self.task)]
            self.bars.update(self.task, total=task.completed or 1, completed=task.completed or 1)
            self.bars.stop_task(self.task)
            self.task = None


class _Lines(Progress):
    """One line for each finished task, and one every 30 seconds, for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.task, self.figures, self.pace = "", "", _Pace(0)
        self.lock, self.closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._report, args=(time.perf_counter(),), daemon=True).start()

    def start(self, task: str, total: int) -> None:
        self.finish()
        with self.lock:
            self.task, self.pace, self.figures = task, _Pace(total), ""

    def advance(self, steps: int = 1, **figures: float) -> None:
        with self.lock:
            self.pace.advance(steps)
            self.figures = _format_figures(figures) or self.figures

    def finish(self) -> None:
        """Print the line of the running task."""
        with self.lock:
            if self.task:
                self._print(f"{self.task}: done in {duration(self.pace.taken)}  {self.figures}")
            self.task = ""

    def close(self) -> None:
        """Print no more lines."""
        self.closed.set()

    def _report(self, began: float) -> None:
        while not self.closed.wait(EVERY):
            with self.lock:
                if not self.task:
                    self._print(f"still working, {duration(time.perf_counter() - began)} so far")
                    continue
                left = self.pace.left
                rest = "" if left is None else f", about {duration(left)} left"
                done = f"{self.pace.percent} in " if self.pace.percent else ""
                self._print(f"{self.task}: {done}{duration(self.pace.taken)}{rest}  {self.figures}")

    def _print(self, line: str) -> None:
        self.console.print(printable(line.rstrip()), soft_wrap=True, markup=False, highlight=False)


def _format_figures(figures: Mapping[str, float], width: int | None = None) -> str:
    """``name 0.123`` for each figure, for as many as fit."""
    shown = ""
    for name, value in figures.items():
        longer = f"{shown}  {name.replace('_', ' ')} {value:.3g}".strip()
        if width is not None and len(longer) > width:
            break
        shown = longer
    return shown
