"""Print the remedies that were tried."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from dfq_deploy.cli.views.tables import duration, indented, table, title

__all__ = ["show_remedies"]


def show_remedies(remedies: Mapping[str, Any] | None) -> Group | None:
    """Each remedy with its gain and its cost, and why no more was tried; None where nothing was called for."""
    if remedies is None or (not remedies["steps"] and remedies["reached"]):
        return None
    unit = remedies["unit"]
    rows = [
        (
            step["what"],
            _gain(step, unit),
            "" if step["slowdown"] is None else f"{step['slowdown']:.2f} times",
            "" if not step["added_bytes"] else f"{step['added_bytes'] / 1000:+.1f} kB",
            duration(step["seconds"]),
            "kept" if step["kept"] else f"dropped: {step['reason']}",
        )
        for step in remedies["steps"]
    ]
    heads = ("remedy", "gain", "latency", "size", "took", "")
    said = f"{remedies['said'][:1].upper()}{remedies['said'][1:]}"
    called_for = {"slower than float" if step["name"] == "faster" else _below(remedies) for step in remedies["steps"]}
    reason = " and ".join(sorted(called_for)) or _below(remedies)
    head = title("remedies", f"{reason}; latency and size against the first result")
    parts = [indented(table(heads, rows))] if rows else []
    return Group("", head, *parts, Text(f"  {said}, {duration(remedies['seconds'])}"))


def _below(remedies: Mapping[str, Any]) -> str:
    idle = remedies["reached"] and not any(step["kept"] for step in remedies["steps"])
    return f"{'close to' if idle else 'below'} the floor ({remedies['floor']})"


def _gain(step: Mapping[str, Any], unit: str) -> str:
    """What a step changed: its figure, or the speed where that was to be gained."""
    if not step["measured"]:
        return ""
    if step["name"] == "faster" and step["slowdown"]:
        return f"{1 / step['slowdown']:.2f} times as fast"
    return f"{_figure(step['before'], unit)} to {_figure(step['after'], unit)}"


def _figure(figure: float | None, unit: str) -> str:
    return "equal" if figure is None else f"{figure:.1f} {unit}"
