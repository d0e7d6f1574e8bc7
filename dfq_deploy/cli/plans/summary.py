"""Print the results of a plan in one table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.console import Group
from rich.text import Text

from dfq_deploy.cli.views.tables import duration, page, size, table, title
from dfq_deploy.cli.views.verdict import BAD_STATUS, STYLES
from dfq_deploy.errors import printable

__all__ = ["FAILED", "RunResult", "exit_status", "show_summary", "summary_document"]

FAILED = "failed"


@dataclass(frozen=True)
class RunResult:
    """How a run of a plan ended.

    Args:
        status: OK, CHECK, BAD, or :data:`FAILED`.
        reason: of the verdict, or the error.
        output: the folder with the results; empty if there are none.
        agreement: predicted percentage of real inputs with the class that float gives; None if it is not known.
        float_bytes, quantized_bytes: sizes of the files.
        seconds: how long the run took.
    """

    model: str
    target: str
    status: str
    reason: str
    output: str = ""
    agreement: float | None = None
    float_bytes: int | None = None
    quantized_bytes: int | None = None
    seconds: float = 0.0


def exit_status(results: Sequence[RunResult]) -> int:
    """1 if a run failed, else 3 if a result is BAD, else 0."""
    states = {result.status for result in results}
    return 1 if FAILED in states else BAD_STATUS if "BAD" in states else 0


def summary_document(plan: str, results: Sequence[RunResult]) -> dict[str, Any]:
    """What ``run --json`` prints."""
    return {"plan": plan, "status": _overall(results), "runs": [asdict(result) for result in results]}


def show_summary(results: Sequence[RunResult]) -> None:
    """A row for each run, the reasons of those that are not OK, and the verdict on all as the last line."""
    rows = [
        (
            result.model,
            result.target,
            result.status,
            "" if result.agreement is None else f"{result.agreement:.1f} %",
            _sizes(result),
            duration(result.seconds),
            result.output,
        )
        for result in results
    ]
    heads = ("model", "target", "verdict", "agreement", "size", "took", "results")
    doubtful = [result for result in results if result.status != "OK"]
    reasons = [
        Text.assemble(
            "\n", (result.status, STYLES.get(result.status, "bold red")), f" {_name(result)}: {result.reason}"
        )
        for result in doubtful
    ]
    page(title("summary"), table(heads, rows), Group(*reasons) if reasons else None, "")
    counts = {state: sum(result.status == state for result in results) for state in ("OK", "CHECK", "BAD", FAILED)}
    counted = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    status = _overall(results)
    worst = next((result for result in doubtful if result.status == status), None)
    named = "" if worst is None else f"; first {_name(worst)}: {worst.reason}"
    styled = click.style(status, fg={"OK": "green", "CHECK": "yellow"}.get(status, "red"), bold=True)
    click.echo(f"{styled}: {counted} of {len(results)} results{printable(named)}")


def _overall(results: Sequence[RunResult]) -> str:
    """The worst state."""
    states = {result.status for result in results}
    return next(state for state in (FAILED, "BAD", "CHECK", "OK") if state in states)


def _name(result: RunResult) -> str:
    return f"{result.model} for {result.target}"


def _sizes(result: RunResult) -> str:
    if not result.float_bytes or not result.quantized_bytes:
        return ""
    return f"{size(result.float_bytes)} to {size(result.quantized_bytes)}"
