"""The section of the HTML report on the remedies that were tried."""

from collections.abc import Mapping
from html import escape
from typing import Any

__all__ = ["remedies_section"]

HEAD = (
    "<tr><th>remedy</th><th>what</th><th class='n'>before</th><th class='n'>after</th><th class='n'>gain</th>"
    "<th class='n'>latency</th><th class='n'>size</th><th class='n'>took</th><th>result</th></tr>"
)


def remedies_section(report: Mapping[str, Any]) -> str:
    """Each step with its gain, its cost and whether it was kept, and why the search ended; empty without a search."""
    remedies = report.get("remedies")
    if not remedies or (not remedies["steps"] and remedies["reached"]):
        return ""
    said = str(remedies["said"])
    known = () if remedies["stopped"] == "unmeasured" else ("first", "last")
    ends = "".join(
        f"<tr><td>{name}</td><td>{escape(str(value))}</td></tr>"
        for name, value in (
            ("floor", remedies["floor"]),
            *((f"{which} result", _figure(remedies[which], remedies["unit"])) for which in known),
            ("ended, as", f"{said}; {remedies['seconds']:.0f} s of at most {remedies['max_time']:.0f} s"),
        )
    )
    rows = "".join(_row(step, remedies["unit"]) for step in remedies["steps"])
    table = f"<div class='wide'><table><thead>{HEAD}</thead><tbody>{rows}</tbody></table></div>" if rows else ""
    note = "what was tried because the first result was below the floor; latency and size against that result"
    return f"<h2>Remedies</h2>\n<p class='soft'>{note}</p>\n<table class='facts'><tbody>{ends}</tbody></table>\n{table}"


def _row(step: Mapping[str, Any], unit: str) -> str:
    slower, added = step["slowdown"], step["added_bytes"]
    after = _figure(step["after"], unit) if step["measured"] else ""
    gain = step["gain"]
    cells = (
        _figure(step["before"], unit), after, "" if gain is None else f"{gain:+.1f}",
        "" if slower is None else f"{slower:.2f}\N{MULTIPLICATION SIGN}",
        "" if added is None else f"{added / 1e6:+.2f} MB", f"{step['seconds']:.1f} s",
    )  # fmt: skip
    numbers = "".join(f"<td class='n'>{escape(cell)}</td>" for cell in cells)
    result = "kept" if step["kept"] else f"dropped: {step['reason']}"
    return (
        f"<tr><td><code>{escape(str(step['name']))}</code></td><td>{escape(str(step['what']))}</td>{numbers}"
        f"<td>{escape(result)}</td></tr>"
    )


def _figure(value: float | None, unit: str) -> str:
    """A figure with its unit; JSON has no infinite one, which stands for no noise at all."""
    return "equal" if value is None else f"{value:.1f} {unit}"
