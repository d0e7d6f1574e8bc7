"""``dfq-deploy check``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.shell import Guarded, Shell

if TYPE_CHECKING:
    from dfq_deploy.checking import Report

__all__ = ["check"]


@click.command(cls=Guarded, short_help="Whether a runtime takes a quantized file.")
@click.argument("model", type=FILE)
@click.option("--target", default="cpu", show_default=True, metavar="NAME", help="The runtime to check it for.")
@click.pass_context
def check(ctx: click.Context, /, *, model: Path, target: str) -> None:
    """List every place where MODEL, any tool's ONNX file, breaks a rule of a target.

    Exit status 0: it breaks none. 1: it breaks some, or cannot be read.
    """
    from dfq_deploy.checking import check as look

    shell: Shell = ctx.obj
    found = look(model, target)
    if shell.as_json:
        shell.emit(found.to_json())
    elif not (shell.quiet and found.clean and not found.warnings):
        _show(found, shell.verbose)
    ctx.exit(0 if found.clean else 1)


def _show(found: "Report", verbose: bool) -> None:
    from rich.console import Group, RenderableType
    from rich.text import Text

    from dfq_deploy.cli.views.tables import facts, indented, notes, page, title, warnings

    count = len(found.violations)
    verdict = "clean" if found.clean else f"{count} violation{'s' if count > 1 else ''}"
    parts: list[RenderableType] = []
    for rule, asks in found.rules.items():
        broken = [violation for violation in found.violations if violation.rule == rule]
        if broken:
            lines = [Text(f"{entry.operator} '{entry.node}': {entry.found}") for entry in broken]
            advice = Text(f"-> {broken[0].way_out}", "dim")
            parts += ["", title(rule, asks), *(indented(line) for line in (*lines, advice))]
    listed = Group("", title("rules"), facts(found.rules.items())) if verbose else None
    page(
        title(f"{Path(found.model).name} for {found.target}", f"{verdict}, {len(found.rules)} rules"),
        *parts,
        warnings(found.warnings),
        notes(found.notes),
        listed,
    )
