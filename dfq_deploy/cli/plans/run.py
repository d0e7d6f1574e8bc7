"""``dfq-deploy run``."""

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfq_deploy.cli.calibrate import run_calibration
from dfq_deploy.cli.failures import error_line
from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.shell import Guarded, Shell

if TYPE_CHECKING:
    from dfq_deploy.cli.plans.plan import Run
    from dfq_deploy.cli.plans.summary import RunResult
    from dfq_deploy.progress import Progress

__all__ = ["run"]

logger = logging.getLogger(__name__)


@click.command(cls=Guarded, short_help="Quantize several models as a plan says.")
@click.argument("plan", type=FILE)
@click.option("--list", "only_list", is_flag=True, help="Print the runs of the plan, and do nothing.")
@click.pass_context
def run(ctx: click.Context, /, *, plan: Path, only_list: bool) -> None:
    """Quantize each model of PLAN, a TOML file, for each of its targets, and print a table of the results.

    The plan is read and checked before any work. A run that fails does not keep the others from going on. Paths in a
    plan are relative to its folder; --seed and --device apply where the plan states none. docs/plans.md describes the
    keys.

    Exit status 0: all results are OK or CHECK. 1: a run failed, or the plan is wrong. 3: a result is BAD.

    \b
    Examples:
      dfq-deploy init model.onnx
      dfq-deploy run plan.toml --list
      dfq-deploy run plan.toml
    """
    from dfq_deploy.cli.plans.plan import read_plan
    from dfq_deploy.cli.plans.summary import exit_status, show_summary, summary_document
    from dfq_deploy.cli.views.progress import display

    shell: Shell = ctx.obj
    runs = read_plan(plan, shell)
    if only_list:
        _show_runs(runs, plan, shell)
        return
    results = []
    for number, one in enumerate(runs, 1):
        if not (shell.as_json or shell.quiet):
            click.echo(f"{number} of {len(runs)}: {one.model.name} for {one.target}", err=True)
        with display(shell) as progress:
            results.append(_result(one, progress))
        if not (shell.as_json or shell.quiet):
            click.echo(f"{results[-1].status}: {results[-1].reason}", err=True)
    if shell.as_json:
        shell.emit(summary_document(str(plan), results))
    elif not shell.quiet:
        show_summary(results)
    ctx.exit(exit_status(results))


def _result(one: "Run", progress: "Progress") -> "RunResult":
    """Run it; an error becomes the result."""
    from dfq_deploy.cli.plans.summary import FAILED, RunResult

    began = time.perf_counter()
    try:
        report = run_calibration(one.model, one.keywords, progress).report
    except Exception as problem:  # whatever keeps one model from its result keeps no other
        logger.debug("%s for %s failed", one.model, one.target, exc_info=problem)
        seconds = round(time.perf_counter() - began, 1)
        return RunResult(one.model.name, one.target, FAILED, error_line(problem), seconds=seconds)
    verdict, predicted = report["verdict"], (report.get("agreement") or {}).get("predicted")
    return RunResult(
        one.model.name,
        one.target,
        verdict["status"],
        verdict["reason"],
        str(one.folder),
        None if predicted is None else predicted["value"],
        report["model"]["file_bytes"],
        report["quantized"]["file_bytes"],
        round(time.perf_counter() - began, 1),
    )


def _show_runs(runs: "list[Run]", plan: Path, shell: Shell) -> None:
    from dfq_deploy.cli.views.tables import page, table

    rows = [(one.model.name, one.target, str(one.keywords["floor"]), str(one.folder)) for one in runs]
    heads = ("model", "target", "floor", "output")
    if shell.as_json:
        shell.emit({"plan": str(plan), "runs": [dict(zip(heads, row, strict=True)) for row in rows]})
    else:
        page(table(heads, rows))
