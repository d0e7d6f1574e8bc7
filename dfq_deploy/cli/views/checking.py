"""Print the result of ``check``: violations by rule, then the verdict."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from dfq_deploy.cli.views.tables import facts, indented, notes, page, title, warnings

if TYPE_CHECKING:
    from dfq_deploy.checking import Report as CheckReport
    from dfq_deploy.checking.violation import Violation

__all__ = ["show_check"]

SHOWN_PLACES = 3
"""How many places of each rule are listed; one more is shown where it takes the place of "and 1 more"."""


def show_check(report: "CheckReport", verbose: bool) -> None:
    """What ``check`` prints; ``verbose`` lists every place, and all rules."""
    parts: list[RenderableType] = []
    for rule, asks in report.rules.items():
        violations = [violation for violation in report.violations if violation.rule == rule]
        if violations:
            level = "" if violations[0].level == "error" else "advice, not enforced: "
            parts += ["", title(rule, f"{level}{asks}"), *_places(violations, None if verbose else SHOWN_PLACES)]
    page(
        title(f"{Path(report.model).name} for {report.target}", f"{len(report.rules)} rules"),
        *parts,
        warnings(report.warnings),
        notes(report.notes),
        Group("", title("rules"), facts(report.rules.items())) if verbose else None,
        "",
        Text(_verdict(report), "bold green" if report.clean else "bold red"),
    )


def _places(violations: "list[Violation]", limit: int | None) -> list[RenderableType]:
    """A line for each place, up to ``limit``, one for the rest, and the way out."""
    shown = violations if limit is None or len(violations) <= limit + 1 else violations[:limit]
    lines = [Text(f"{entry.place}: {entry.found}") for entry in shown]
    if len(shown) < len(violations):
        lines.append(Text(f"and {len(violations) - len(shown)} more", "dim"))
    return [indented(line) for line in (*lines, Text(f"-> {violations[0].way_out}", "dim"))]


def _verdict(report: "CheckReport") -> str:
    """The last line: how many rules are broken, and in how many places."""
    advice = f"; {len(report.advice)} of advice" if report.advice else ""
    if report.clean:
        return f"clean: no rule of {report.target} is broken{advice}"
    rules, places = len({violation.rule for violation in report.errors}), len(report.errors)
    counted = f"{rules} rule{'s' if rules > 1 else ''} of {report.target} in {places} place{'s' if places > 1 else ''}"
    return f"broken: {counted}{advice}"
