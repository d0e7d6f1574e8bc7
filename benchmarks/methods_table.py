"""What benchmarks.methods has measured, as Markdown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean

__all__ = ["Result", "overview", "table"]

BASELINES = ("256 Gaussian", "256 procedural")
"""What a method has to beat to be worth its time."""


@dataclass(frozen=True)
class Result:
    """One cell of the table.

    Args:
        seconds: that making the samples took.
        float_top1, top1, agreement: percent.
        figures: what the method says of its samples.
        refine: names of the refinements, with commas.
    """

    model: str
    dataset: str
    images: int
    method: str
    seed: int
    bits: str
    samples: int
    seconds: float
    float_top1: float
    top1: float
    agreement: float
    figures: dict[str, float] = field(default_factory=dict)
    refine: str = "bias"

    @property
    def drop(self) -> float:
        """Points of top-1 that are lost."""
        return self.float_top1 - self.top1


def table(results: list[Result]) -> str:
    """Markdown, a block for each model and data set; several seeds as their mean and, in brackets, their ends.

    Seconds are those of the fastest: what else the machine does can only add to them.
    """
    lines = []
    for model, dataset in dict.fromkeys((result.model, result.dataset) for result in results):
        rows = [result for result in results if (result.model, result.dataset) == (model, dataset)]
        widths = list(dict.fromkeys(row.bits for row in rows))
        cells: dict[str, dict[str, list[Result]]] = {}
        for row in rows:
            cells.setdefault(row.method, {}).setdefault(row.bits, []).append(row)
        lines += [f"\n**{model}** on {dataset} ({rows[0].images} images, float {rows[0].float_top1:.2f})\n"]
        heads = [f"{bits.upper()} top-1 | drop | agrees" for bits in widths]
        lines += [f"| samples | seconds | {' | '.join(heads)} | beats noise and rule |"]
        lines += ["|---|" + "---:|" * (1 + 3 * len(widths)) + "---|"]
        for name in sorted(cells, key=lambda name: -_top1(cells[name].get(widths[-1], []))):
            entry = [_cells(cells[name].get(bits, [])) for bits in widths]
            seconds = min(row.seconds for found in cells[name].values() for row in found)
            lines += [f"| {name} | {_seconds(seconds)} | {' | '.join(entry)} | {_beaten(name, cells, widths)} |"]
    return "\n".join(lines)


def overview(results: list[Result], figure: str = "drop") -> str:
    """Markdown: ``drop`` or ``agreement``, the mean over data sets and seeds, best mean of a row's cells first."""
    names, widths = (list(dict.fromkeys(getattr(r, key) for r in results)) for key in ("model", "bits"))
    columns = [(m, w) for m in names for w in widths if any((r.model, r.bits) == (m, w) for r in results)]
    found: dict[str, dict[tuple[str, str], list[float]]] = {}
    for row in results:
        found.setdefault(row.method, {}).setdefault((row.model, row.bits), []).append(getattr(row, figure))
    shown = {name: {column: mean(values) for column, values in cells.items()} for name, cells in found.items()}
    lines = [f"| {figure} | seconds | " + " | ".join(f"{model} {bits.upper()}" for model, bits in columns) + " |"]
    lines += ["|---|" + "---:|" * (1 + len(columns))]
    ranked = sorted(shown.items(), key=lambda item: mean(item[1].values()), reverse=figure != "drop")
    for name, cells in ranked:
        seconds = [min(r.seconds for r in results if (r.method, r.model) == (name, model)) for model, _ in cells]
        times = ", ".join(dict.fromkeys(_seconds(value) for value in seconds))
        entry = [f"{cells[column]:.2f}" if column in cells else "" for column in columns]
        lines += [f"| {name} | {times} | {' | '.join(entry)} |"]
    return "\n".join(lines)


def _top1(rows: list[Result]) -> float:
    return mean(row.top1 for row in rows) if rows else 0.0


def _cells(rows: list[Result]) -> str:
    if not rows:
        return "| |"
    found = sorted(row.top1 for row in rows)
    span = f" ({found[0]:.2f} to {found[-1]:.2f})" if len(found) > 1 else ""
    drop, same = mean(row.drop for row in rows), mean(row.agreement for row in rows)
    return f"{mean(found):.2f}{span} | {drop:.2f} | {same:.2f}"


def _seconds(value: float) -> str:
    if value == 0:
        return ""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _beaten(name: str, cells: Mapping[str, Mapping[str, list[Result]]], widths: list[str]) -> str:
    """The widths at which a row is above both baselines; a dash where at none, nothing for a baseline."""
    if name in BASELINES or not all(baseline in cells for baseline in BASELINES):
        return ""
    above = [
        bits.upper()
        for bits in widths
        if bits in cells[name]
        and all(_top1(cells[name][bits]) > _top1(cells[baseline].get(bits, [])) for baseline in BASELINES)
    ]
    return ", ".join(above) or "-"
