"""``dfq-deploy check``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.options import target_option
from dfq_deploy.cli.shell import Guarded, Shell

if TYPE_CHECKING:
    from dfq_deploy.checking import Report

__all__ = ["check"]


@click.command(cls=Guarded, short_help="Check a quantized file against the rules of a runtime.")
@click.argument("model", type=FILE)
@target_option("The runtime to check it for.")
@click.pass_context
def check(ctx: click.Context, /, *, model: Path, target: str) -> None:
    """List every place where MODEL, an ONNX file of any tool, violates a rule of a target.

    Violations of rules that the runtime does not enforce are advice: the file runs, only slower.

    Exit status 0: no violation, or advice only. 1: violations were found, or MODEL cannot be read.
    """
    from dfq_deploy.checking import check as check_file

    shell: Shell = ctx.obj
    report = check_file(model, target)
    if shell.as_json:
        shell.emit(report.to_json())
    elif not (shell.quiet and report.clean and not report.warnings):
        _show(report, shell.verbose)
    ctx.exit(0 if report.clean else 1)


def _show(report: "Report", verbose: bool) -> None:
    from rich.console import Group, RenderableType
    from rich.text import Text

    from dfq_deploy.cli.views.tables import facts, indented, notes, page, title, warnings

    count = len(report.errors)
    verdict = "clean" if report.clean else f"{count} violation{'s' if count > 1 else ''}"
    if report.advice:
        verdict += f", {len(report.advice)} of advice"
    parts: list[RenderableType] = []
    for rule, asks in report.rules.items():
        violations = [violation for violation in report.violations if violation.rule == rule]
        if violations:
            lines = [Text(f"{entry.place}: {entry.found}") for entry in violations]
            way_out = Text(f"-> {violations[0].way_out}", "dim")
            level = "" if violations[0].level == "error" else "advice, not enforced: "
            parts += ["", title(rule, f"{level}{asks}"), *(indented(line) for line in (*lines, way_out))]
    listed = Group("", title("rules"), facts(report.rules.items())) if verbose else None
    page(
        title(f"{Path(report.model).name} for {report.target}", f"{verdict}, {len(report.rules)} rules"),
        *parts,
        warnings(report.warnings),
        notes(report.notes),
        listed,
    )
