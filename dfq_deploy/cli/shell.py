"""Common options of all commands, the way a command runs, and how it ends.

Errors and exit status: :mod:`dfq_deploy.cli.failures`. A traceback is printed only with ``--debug``.
"""

import _thread
import errno
import io
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import click

from dfq_deploy.cli.failures import print_json, report_error
from dfq_deploy.cli.option_types import BytesType, CountType, NumberType
from dfq_deploy.errors import printable
from dfq_deploy.files.written import forget_written
from dfq_deploy.validation.bounds import Bounds, default_memory, use_bounds

__all__ = ["COMMAND_LINE", "CommandGroup", "Guarded", "Shell"]

PROGRAM, COMMAND_LINE = "dfq-deploy", "dfq_deploy.command_line"
"""The program's name, and the key of the whole command line in the context."""

AGAIN_S = 0.05
"""Seconds until a signal that was dropped is sent once more: the finalizer has ended by then."""

COMMON = (
    click.Option(
        ["--seed"],
        type=CountType(0, 0),
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
        help="Refuse a model whose tensors take more, e.g. 8G; below 2G also run smaller parts and take fewer samples, "
        "which the report says.  [default: half of the machine's memory]",
    ),
    click.Option(
        ["--max-seconds"],
        type=NumberType("a number of seconds above 0", lambda number: number > 0),
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


UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF})
"""Errors of a stream, which has no name, that cannot be written; those of files are :class:`.OutputError`."""

EXCEPT: Mapping[str, frozenset[str]] = {
    "random": frozenset({"seed"}),
    "device": frozenset({"device"}),
    "model": frozenset({"max_memory", "max_seconds"}),
    "summary": frozenset({"quiet"}),
    "details": frozenset({"verbose"}),
}
"""What a command has or does -> the common options that mean something only then."""


@dataclass(frozen=True)
class Shell:
    """The common options of one call.

    Args:
        command: the whole command line, to paste.
    """

    seed: int
    device: str
    as_json: bool
    verbose: bool
    quiet: bool
    debug: bool
    command: str = ""

    @property
    def log_level(self) -> int:
        """The level of the package's loggers."""
        if self.debug:
            return logging.DEBUG
        return logging.INFO if self.verbose else logging.ERROR

    def emit(self, document: Mapping[str, Any]) -> None:
        """Print the one JSON object."""
        print_json(document)


class _Stderr(logging.Handler):
    """Writes to the current ``sys.stderr``: while progress bars are shown, Rich replaces it and prints above them."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{printable(self.format(record))}\n")


class Guarded(click.Command):
    """A command with the common options; its callback gets them as the context's ``obj``, a :class:`Shell`.

    Args:
        without: keys of :data:`EXCEPT`; the help of the command leaves out their options, which change nothing.
    """

    def __init__(self, *arguments: Any, without: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        meaningless = frozenset[str]().union(*(EXCEPT[key] for key in without))
        for option in COMMON:
            shown = copy(option)
            shown.hidden = option.name in meaningless
            self.params.append(shown)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments as they were given, for the report."""
        ctx.meta[COMMAND_LINE] = shlex.join([PROGRAM, str(ctx.info_name), *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print an error in one line."""
        given = {str(option.name): ctx.params.pop(str(option.name)) for option in COMMON}
        limits = Bounds(memory=given.pop("max_memory") or default_memory(), seconds=given.pop("max_seconds"))
        shell = Shell(**given, command=ctx.meta[COMMAND_LINE])
        ctx.obj = shell
        logging.basicConfig(handlers=[_Stderr()], level=logging.ERROR, format="%(message)s", force=True)
        logging.getLogger("dfq_deploy").setLevel(shell.log_level)
        forget_written()
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
        except BrokenPipeError as problem:  # whoever read the output has enough of it
            _report_output(problem)
            ctx.exit(1)
        except (Exception, KeyboardInterrupt) as problem:
            if isinstance(problem, OSError) and problem.filename is None and problem.errno in UNWRITABLE:
                _report_output(problem)
                ctx.exit(1)
            if shell.debug:
                click.echo(printable(traceback.format_exc()), err=True, nl=False)
            report_error(problem, as_json=shell.as_json)
            ctx.exit(1)


class CommandGroup(click.Group):
    """The commands; an error in the command line ends in one line, like every other error."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its status; without ``standalone_mode``, return it or raise the error."""
        settings = {"windows_expand_args": windows_expand_args, **extra}
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **settings)
        _open_closed()
        try:
            sys.exit(self._status(args, prog_name, complete_var, settings))
        except OSError as problem:  # of stdout: commands report those of files themselves
            _report_output(problem)
            sys.exit(1)

    def _status(
        self, args: Sequence[str] | None, prog_name: str | None, complete_var: str | None, settings: Mapping[str, Any]
    ) -> int:
        try:
            status = super().main(args, prog_name, complete_var, False, **settings)
        except click.exceptions.NoArgsIsHelpError as problem:
            problem.show()
            return problem.exit_code
        except click.ClickException as problem:
            words = sys.argv[1:] if args is None else args
            report_error(problem, as_json="--json" in words)
            return problem.exit_code
        except click.Abort:
            report_error(KeyboardInterrupt(), as_json=False)
            return 1
        return status if isinstance(status, int) else 0


def _flush() -> None:
    """Write what is still in the buffer, so that a full disk behind stdout is said and not a traceback at the end."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        _report_output(problem)
        raise click.exceptions.Exit(1) from None


def _report_output(problem: OSError) -> None:
    """Report that stdout cannot be written, unless its reader has left; the interpreter flushes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(problem, BrokenPipeError):
        click.echo(f"error: the output cannot be written: {problem.strerror or problem}", err=True)


def _open_closed() -> None:
    """Write to nothing where stdout or stderr was closed before the start: Python has None there.

    What their encoding lacks, such as bytes of a path that are no UTF-8, is written as an escape.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does: what can be resumed is kept, temporary files go.

    A signal that arrives in a finalizer, where Python drops every exception, is sent once more.
    """
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    kinds = [kind for kind in (getattr(signal, name) for name in names) if signal.getsignal(kind) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt

    def dropped(problem: "sys.UnraisableHookArgs") -> None:
        if not issubclass(problem.exc_type, KeyboardInterrupt):
            report(problem)
        elif kinds:
            threading.Timer(AGAIN_S, _thread.interrupt_main, kinds[:1]).start()

    before = {kind: signal.signal(kind, interrupt) for kind in kinds if kind is not signal.SIGINT}
    report, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        yield
    finally:
        sys.unraisablehook = report
        for kind, handler in before.items():
            signal.signal(kind, handler)
