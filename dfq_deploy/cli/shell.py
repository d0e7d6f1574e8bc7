"""Common options of all commands, error lines and exit codes.

Exit status 0: done. 1: a problem with the input or the machine, said in one line on stderr (and, with ``--json``,
as one object with the key ``error`` on stdout). 2: wrong usage. 3: done, and the verdict on the result is BAD. A
traceback only with ``--debug``.
"""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from dfq_deploy.cli.option_types import BytesType
from dfq_deploy.errors import DfqError, is_out_of_memory
from dfq_deploy.files.json_text import json_text
from dfq_deploy.validation.bounds import Bounds, default_memory, use_bounds

__all__ = ["Guarded", "Shell"]

COMMON = (
    click.Option(
        ["--seed"],
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="The same seed gives the same files.",
    ),
    click.Option(
        ["--device"], default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Device to compute on."
    ),
    click.Option(
        ["--max-memory"],
        type=BytesType(),
        metavar="SIZE",
        help="Refuse a model whose tensors take more, e.g. 8G.  [default: half of the machine's memory]",
    ),
    click.Option(
        ["--max-seconds"],
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Refuse a model that takes longer to be loaded and run once.",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object on stdout and nothing else."),
    click.Option(["-v", "--verbose"], is_flag=True, help="Print details, and log the steps to stderr."),
    click.Option(["-q", "--quiet"], is_flag=True, help="Show no progress and no summary."),
    click.Option(["--debug"], is_flag=True, help="Log everything to stderr, and show the traceback of an error."),
)


@dataclass(frozen=True)
class Shell:
    """The common options of one call."""

    seed: int
    device: str
    as_json: bool
    verbose: bool
    quiet: bool
    debug: bool

    @property
    def log_level(self) -> int:
        """The level of the package's loggers."""
        if self.debug:
            return logging.DEBUG
        return logging.INFO if self.verbose else logging.ERROR

    def emit(self, document: Mapping[str, Any]) -> None:
        """Print the one JSON object."""
        click.echo(json_text(document))


class _Stderr(logging.Handler):
    """Writes to the current ``sys.stderr``: while progress bars are shown, Rich replaces it and prints above them."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{self.format(record)}\n")


class Guarded(click.Command):
    """A command with the common options; its callback gets them as the context's ``obj``, a :class:`Shell`."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.extend(COMMON)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print an error in one line."""
        given = {str(option.name): ctx.params.pop(str(option.name)) for option in COMMON}
        limits = Bounds(memory=given.pop("max_memory") or default_memory(), seconds=given.pop("max_seconds"))
        shell = Shell(**given)
        ctx.obj = shell
        logging.basicConfig(handlers=[_Stderr()], level=logging.ERROR, format="%(message)s", force=True)
        logging.getLogger("dfq_deploy").setLevel(shell.log_level)
        try:
            with use_bounds(limits):
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as problem:
            if shell.debug:
                raise
            _fail(problem, shell)
            ctx.exit(1)


def _fail(problem: BaseException, shell: Shell) -> None:
    message = _error_message(problem)
    click.echo(message if isinstance(problem, KeyboardInterrupt) else f"error: {message}", err=True)
    if shell.as_json:
        shell.emit({"error": message, "kind": type(problem).__name__})


def _error_message(problem: BaseException) -> str:
    """The error in one line: what happened and what to do."""
    text = " ".join(str(problem).split())
    if isinstance(problem, DfqError):
        return text
    if isinstance(problem, KeyboardInterrupt):
        return text or "interrupted: nothing was written"
    if is_out_of_memory(problem):
        return "not enough memory; use fewer samples (--samples) or a machine with more memory"
    if isinstance(problem, OSError):
        return f"{text}; nothing was written"
    return f"unexpected {type(problem).__name__}: {text or 'no message'}; run again with --debug and report it"
