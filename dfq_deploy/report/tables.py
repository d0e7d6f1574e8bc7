"""Sortable tables of the report: layers, activations, weights, what stays float, layers of an engine."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from markupsafe import Markup

from dfq_deploy.report.charts.bars import meter
from dfq_deploy.report.charts.noise import kind_of
from dfq_deploy.report.formats import breakable, decibel, number, scale, share, shortened

__all__ = [
    "Cell",
    "Table",
    "activation_table",
    "engine_tables",
    "float_table",
    "layer_table",
    "name_cell",
    "number_cell",
    "weight_table",
]

SNR_FULL = 50.0
"""A bar of this many dB is full: the rounding of 8 bits alone leaves about that much."""

EXACT = 1e9
"""Stands for an infinite signal to noise where rows are sorted."""

IDLE = frozenset({"signal", "wait"})
"""Kinds of layers of an engine that only synchronize streams."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        text: what it shows.
        value: what it is sorted by; None sorts by the text.
        kind: its class: ``n`` for a number, ``name`` for a name, else empty.
        full: shown where the pointer rests, where ``text`` is shortened.
    """

    text: str | Markup
    value: float | None = None
    kind: str = ""
    full: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: of its place on the page.
        caption: what it is.
        heads: of the columns, and the term of the glossary that each uses, if any.
        rows: of cells; the first ones of ``total``.
        order: how the rows are sorted, for the note where some are left out.
        anchors: place of each row, where rows are linked to.
    """

    name: str
    caption: str
    heads: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int
    order: str
    anchors: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """Says that rows are left out; empty where none is."""
        count = len(self.rows)
        if count == self.total:
            return ""
        return f"The first {count} of {self.total:,}, {self.order}; report.json has all of them."

    def numeric(self, column: int) -> bool:
        """True for a column of numbers."""
        return bool(self.rows) and self.rows[0][column].kind == "n"


def _table(
    name: str, caption: str, heads: Sequence[str | tuple[str, str]], rows: Sequence[Any], most: int,
    cells: Callable[[Any], Iterable[Cell]], order: str = "in the graph's order", anchors: Sequence[str] = (),
) -> Table:  # fmt: skip
    shown = tuple(tuple(cells(row)) for row in islice(rows, most))
    named = tuple((head, "") if isinstance(head, str) else head for head in heads)
    return Table(name, caption, named, shown, len(rows), order, tuple(anchors[:most]))


def name_cell(name: object) -> Cell:
    """A name, shortened in the middle where it is long."""
    text = shortened(name)
    return Cell(breakable(name), None, "name", "" if text == name else shortened(name, 400))


def snr_cell(row: Row, key: str) -> Cell:
    """Signal to noise with its bar; an empty cell where it was not measured."""
    if key not in row:
        return Cell("", -EXACT, "n")
    value = row[key]
    part = 1.0 if value is None else max(0.0, value) / SNR_FULL
    return Cell(
        Markup('{} <span class="v">{}</span>').format(meter(part, kind_of(value)), decibel(value)),
        EXACT if value is None else value,
        "n",
    )


def number_cell(value: float | None, text: str | None = None) -> Cell:
    """A number, sorted by its value."""
    return Cell(number(value) if text is None else text, -EXACT if value is None else float(value), "n")


def layer_table(layers: Sequence[Row], most: int, in_float: Collection[str] = ()) -> Table:
    """Every layer that reads integers, the noisiest first; those that compute in float are marked."""

    def cells(row: Row) -> Iterable[Cell]:
        known = row if row.get("accumulated_snr_db") is not None else {}
        yield snr_cell(row, "own_snr_db")
        yield name_cell(row["node"])
        yield Cell(f"{row['operator']}, in float" if row["node"] in in_float else row["operator"])
        yield number_cell(row["share"], share(row["share"]))
        yield snr_cell(known, "accumulated_snr_db")
        yield number_cell(row.get("position", 0) + 1)

    heads = (("own noise", "own noise"), "layer", "operator", "of all noise", "accumulated", "place")
    anchors = [f"layer-{row.get('position', index)}" for index, row in enumerate(layers)]
    return _table("layers", "Layers", heads, layers, most, cells, "the noisiest first", anchors)


def activation_table(rows: Sequence[Row], most: int) -> Table:
    """Every quantized activation; of many the noisiest."""
    order = "in the graph's order"
    if len(rows) > most:
        rows = sorted(rows, key=lambda row: EXACT if row.get("snr_db") is None else row["snr_db"])
        order = "those with the least signal to noise"

    def cells(row: Row) -> Iterable[Cell]:
        yield snr_cell(row, "snr_db")
        yield name_cell(row.get("name", ""))
        yield Cell(str(row.get("type", "")))
        yield number_cell(row.get("low"))
        yield number_cell(row.get("high"))
        yield number_cell(_first(row.get("scale")), scale(row.get("scale")))
        yield number_cell(row.get("clipped"), share(row.get("clipped")))

    heads = (
        ("signal to noise", "signal to noise"), "tensor", "type", "lowest", "highest", ("scale", "scale"),
        ("clipped", "clipping"),
    )  # fmt: skip
    return _table("activations", "Activations", heads, rows, most, cells, order)


def weight_table(rows: Sequence[Row], most: int) -> Table:
    """The integers of every quantized weight."""

    def cells(row: Row) -> Iterable[Cell]:
        yield name_cell(row.get("name", ""))
        yield Cell(str(row.get("type", "")))
        yield number_cell(row.get("low"))
        yield number_cell(row.get("high"))
        yield number_cell(_first(row.get("scale")), scale(row.get("scale")))

    heads = ("weight", "type", "lowest", "highest", ("scale", "scale"))
    return _table("weight-types", "Scales of the weights", heads, rows, most, cells)


def float_table(rows: Sequence[Row], most: int) -> Table:
    """Layers that stay in float, and why."""

    def cells(row: Row) -> Iterable[Cell]:
        return (
            name_cell(row.get("name", "")),
            Cell(str(row.get("operator", ""))),
            Cell(shortened(row.get("reason", ""), 300)),
        )

    return _table("left-float", "Left in float", ("layer", "operator", "reason"), rows, most, cells)


def engine_tables(engine: Mapping[str, Any] | None, most: int) -> list[tuple[str, str, Table | None]]:
    """What a compiler made of the file, for each capability: a headline, a refusal, a table of layers."""
    found: list[tuple[str, str, Table | None]] = []
    for entry in (engine or {}).get("capabilities", ()):
        name = f"SM{entry['capability']}"
        if "refusal" in entry:
            found.append((name, shortened(entry["refusal"], 400), None))
            continue
        layers = [layer for layer in entry["layers"] if layer["kind"] not in IDLE]
        heads = ("layer", "kind", "inputs", "constants", "outputs", "nodes")
        table = _table(f"engine-{name}", f"Layers of the engine, {name}", heads, layers, most, _engine_cells)
        found.append((f"{name}: {entry['integer']} of {entry['total']} layers in 8 bits", "", table))
    return found


def _engine_cells(layer: Row) -> Iterable[Cell]:
    yield name_cell(layer["name"])
    yield Cell(str(layer["kind"]))
    for key in ("inputs", "constants", "outputs", "nodes"):
        yield Cell(shortened(", ".join(layer[key]), 120))


def _first(value: float | Sequence[float] | None) -> float | None:
    return max(value) if isinstance(value, Sequence) else value
