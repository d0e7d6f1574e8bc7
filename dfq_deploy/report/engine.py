"""The layers of a compiled engine as HTML."""

from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["engine_section"]

IDLE = frozenset({"signal", "wait"})
"""Kinds of layers that only synchronize streams."""


def engine_section(report: Mapping[str, Any]) -> str:
    """What a compiler made of the file, for each capability; empty if none was asked."""
    engine = report.get("engine")
    if not engine:
        return ""
    parts = [f'<h2>Layers of the engine</h2>\n<p class="soft">{escape(str(engine["runtime"]))}, not run.</p>']
    for entry in engine["capabilities"]:
        name = f"SM{entry['capability']}"
        if "refusal" in entry:
            parts.append(f"<p>{name}: refused: {escape(str(entry['refusal']))}</p>")
            continue
        rows = "".join(_row(layer) for layer in entry["layers"] if layer["kind"] not in IDLE)
        heads = "".join(
            f'<th scope="col">{head}</th>' for head in ("layer", "kind", "inputs", "constants", "outputs", "nodes")
        )
        parts.append(
            f"<details><summary>{name}: {entry['integer']} of {entry['total']} layers in 8 bits</summary>\n"
            f'<div class="wide"><table class="hurts"><tr>{heads}</tr>{rows}</table></div></details>'
        )
    return "\n".join(parts)


def _row(layer: Mapping[str, Any]) -> str:
    types = (", ".join(layer[side]) for side in ("inputs", "constants", "outputs"))
    cells = (layer["name"], layer["kind"], *types, ", ".join(layer["nodes"]))
    return "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"
