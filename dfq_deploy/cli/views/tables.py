"""Building blocks of what commands print: tables, facts, warnings, sizes."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from dfq_deploy.errors import printable

__all__ = ["PIPE_WIDTH", "duration", "facts", "indented", "notes", "page", "size", "table", "title", "warnings"]

PIPE_WIDTH = 120
"""Of what is printed where there is no terminal."""


def page(*parts: RenderableType | None) -> None:
    """Print the parts, without the blanks that tables leave at the ends of lines."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    with console.capture() as captured:
        # Not cropped: lines to be copied are longer than some terminals, which wrap them.
        console.print(*(_Printable(part) for part in parts if part is not None), sep="\n", crop=False)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


@dataclass(frozen=True)
class _Printable:
    """A part of a page whose text has no control characters, whatever the names in a file hold."""

    part: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.part, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values in two columns; rows without a value are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        if value:
            grid.add_row(Text(f"  {name}"), Text(value))
    return grid


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> Table:
    """A table without lines; ``numbers`` puts all columns but the first to the right."""
    grid = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for index, head in enumerate(heads):
        grid.add_column(Text(head), justify="right" if numbers and index else "left")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def indented(part: RenderableType) -> Padding:
    """``part``, two columns to the right."""
    return Padding(part, (0, 0, 0, 2))


def title(text: str, rest: str = "") -> Text:
    """A heading."""
    return Text.assemble((text, "bold"), "  " if rest else "", (rest, "dim"))


def warnings(sentences: Iterable[str]) -> Group | None:
    """One paragraph each, marked; None where there are none."""
    grid = Table.grid(padding=(0, 1))
    for sentence in sentences:
        grid.add_row(Text("!", "bold yellow"), Text(sentence))
    return Group("", grid) if grid.row_count else None


def notes(sentences: Iterable[str]) -> Group | None:
    """One paragraph each, dim: they call for nothing; None where there are none."""
    grid = Table.grid(padding=(0, 1))
    for sentence in sentences:
        grid.add_row(Text("note:", "dim"), Text(sentence, "dim"))
    return Group("", grid) if grid.row_count else None


def duration(seconds: float) -> str:
    """A time for people: ``0.4 s``, ``42 s``, ``1 min 20 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """Bytes for people."""
    if count >= 1e6:
        return f"{count / 1e6:.2f} MB"
    return f"{count / 1e3:.0f} kB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
