"""``dfq-deploy check``."""

from pathlib import Path

import click

from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.options import target_option
from dfq_deploy.cli.shell import Guarded, Shell

__all__ = ["check"]


@click.command(
    cls=Guarded, without=["random", "device"], short_help="Check a quantized file against the rules of a runtime."
)
@click.argument("model", type=FILE)
@target_option("The runtime to check it for.")
@click.pass_context
def check(ctx: click.Context, /, *, model: Path, target: str) -> None:
    """List every place where MODEL, an ONNX file of any tool, violates a rule of a target.

    Violations of rules that the runtime does not enforce are advice: the file runs, only slower.

    Places are listed by rule, three of each; --verbose lists all of them, and the rules.

    Exit status 0: no violation, or advice only. 1: violations were found, or MODEL cannot be read.

    \b
    Examples:
      dfq-deploy check model.qdq.onnx
      dfq-deploy check model.qdq.onnx --target tensorrt --verbose
    """
    from dfq_deploy.checking import check as check_file
    from dfq_deploy.cli.views.checking import show_check

    shell: Shell = ctx.obj
    report = check_file(model, target)
    if shell.as_json:
        shell.emit(report.to_json())
    elif not (shell.quiet and report.clean and not report.warnings):
        show_check(report, shell.verbose)
    ctx.exit(0 if report.clean else 1)
