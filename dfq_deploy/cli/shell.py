"""Common options of all commands, error lines and exit codes.

Exit status 0: done. 1: a problem with the input or the machine, said in one line on stderr (and, with ``--json``,
as one object with the key ``error`` on stdout). 2: wrong usage. A traceback only with ``--debug``.
"""

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from dfq_deploy.errors import DfqError

__all__ = ["Guarded", "Shell"]

COMMON = (
    click.Option(["--seed"], type=click.IntRange(0), default=0, show_default=True, help="Same seed, same files."),
    click.Option(
        ["--device"], default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Where to compute."
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object on stdout and nothing else."),
    click.Option(["-v", "--verbose"], is_flag=True, help="Say more."),
    click.Option(["-q", "--quiet"], is_flag=True, help="Show no progress and no summary."),
    click.Option(["--debug"], is_flag=True, help="Show the traceback of a failure."),
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

    def emit(self, document: Mapping[str, Any]) -> None:
        """Print the one JSON object."""
        click.echo(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False))


class Guarded(click.Command):
    """A command with the common options; its callback gets them as the context's ``obj``, a :class:`Shell`."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.params.extend(COMMON)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; say failures in one line."""
        shell = Shell(**{str(option.name): ctx.params.pop(str(option.name)) for option in COMMON})
        ctx.obj = shell
        logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(message)s", force=True)
        logging.getLogger("dfq_deploy").setLevel(logging.INFO if shell.verbose else logging.ERROR)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as problem:
            if shell.debug:
                raise
            _fail(problem, shell)
            ctx.exit(1)


def _fail(problem: BaseException, shell: Shell) -> None:
    message = _worded(problem)
    click.echo(message if isinstance(problem, KeyboardInterrupt) else f"error: {message}", err=True)
    if shell.as_json:
        shell.emit({"error": message, "kind": type(problem).__name__})


def _worded(problem: BaseException) -> str:
    """One line that says what happened and what to do."""
    text = " ".join(str(problem).split())
    if isinstance(problem, DfqError):
        return text
    if isinstance(problem, KeyboardInterrupt):
        return text or "interrupted: nothing was written"
    if isinstance(problem, MemoryError) or "out of memory" in text or "not enough memory" in text:
        return "not enough memory; use fewer samples (--samples) or a machine with more"
    if isinstance(problem, OSError):
        return f"{text}; nothing was written"
    return f"unexpected {type(problem).__name__}: {text or 'no message'}; run again with --debug and report it"
