"""Common options of all commands, error lines and exit codes.

Exit status 0: done. 1: a problem with the input or the machine, said in one line on stderr (and, with ``--json``,
as one object with the key ``error`` on stdout). 2: wrong usage. 3: done, and the verdict on the result is BAD. A
traceback only with ``--debug``.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        _open_closed()
        given = {str(option.name): ctx.params.pop(str(option.name)) for option in COMMON}
        limits = Bounds(memory=given.pop("max_memory") or default_memory(), seconds=given.pop("max_seconds"))
        shell = Shell(**given)
        ctx.obj = shell
        logging.basicConfig(handlers=[_Stderr()], level=logging.ERROR, format="%(message)s", force=True)
        logging.getLogger("dfq_deploy").setLevel(shell.log_level)
        try:
            with use_bounds(limits), _terminated():
                result = super().invoke(ctx)
            _flush()
            return result
        except click.exceptions.Exit:
            _flush()
            raise
        except (click.ClickException, click.Abort):
            raise
        except BrokenPipeError:  # whoever read the output has enough of it
            _drop_stdout()
            ctx.exit(1)
        except (Exception, KeyboardInterrupt) as problem:
            if shell.debug:
                raise
            _fail(problem, shell)
            ctx.exit(1)


def _flush() -> None:
    """Write what is still in the buffer, so that a full disk behind stdout is said and not a traceback at the end."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        _drop_stdout()
        if not isinstance(problem, BrokenPipeError):
            click.echo(f"error: the output cannot be written: {problem.strerror or problem}", err=True)
        raise click.exceptions.Exit(1) from None


def _open_closed() -> None:
    """Write to nothing where stdout or stderr was closed before the start: Python has None there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the process ends


def _drop_stdout() -> None:
    """Point stdout to nothing: the interpreter flushes it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does: what can be resumed is kept, temporary files go."""
    kinds = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt

    before = {kind: signal.signal(kind, interrupt) for kind in kinds if signal.getsignal(kind) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


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
