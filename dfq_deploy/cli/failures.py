"""Report errors in one line on stderr, with ``--json`` also as one object on stdout.

====== ===========================================================================================
status meaning
====== ===========================================================================================
0      done
1      a problem with a file, the data or the machine; of ``check`` also: a rule is broken
2      wrong usage: an option, its value or its combination with another is wrong, whatever the files hold
3      done, and the verdict on the result is BAD
====== ===========================================================================================
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from dfq_deploy.errors import DfqError, did_you_mean, is_out_of_memory, printable
from dfq_deploy.files.json_text import json_text
from dfq_deploy.files.written import written

__all__ = ["error_line", "print_json", "report_error", "usage_line", "wrong_usage"]

NUMBER = re.compile(r"-?[0-9]*\.?[0-9]+")

FEW_ARGUMENTS = 3
"""So many are a slip of the keyboard; more are files that a shell listed."""


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one JSON object on stdout; what a terminal would obey is written as ``\\uNNNN``."""
    text = json_text(document)
    if printable(text) != text:
        text = "".join(f"\\u{ord(letter):04x}" if printable(letter) != letter else letter for letter in text)
    click.echo(text)


def report_error(problem: BaseException, *, as_json: bool) -> None:
    """Print the error in one line on stderr and, if ``as_json``, as an object with ``error`` and ``kind`` on stdout."""
    usage = isinstance(problem, click.ClickException)
    message = printable(usage_line(problem) if isinstance(problem, click.ClickException) else error_line(problem))
    click.echo(message if isinstance(problem, KeyboardInterrupt) else f"error: {message}", err=True)
    if as_json:
        kind = "UsageError" if usage else type(problem).__name__
        print_json({"error": message, "kind": kind})


@contextmanager
def wrong_usage(prefix: str = "") -> Iterator[None]:
    """Turn an error of the library within the block into wrong usage, with ``prefix`` in front of its message.

    For what is checked before a file is read.
    """
    try:
        yield
    except DfqError as problem:
        raise click.UsageError(f"{prefix}{problem}") from None


def usage_line(problem: click.ClickException) -> str:
    """What is wrong with the command line, and the way out, without a full stop at the end."""
    context: click.Context | None = getattr(problem, "ctx", None)
    command = "dfq-deploy"
    if context is not None and context.parent is not None:
        command += f" {context.info_name}"
    match problem:
        case click.NoSuchOption():
            known = [] if context is None else _options(context.command)
            return f"{command} has no option {problem.option_name}{_similar(problem.option_name, known, command)}"
        case click.NoSuchCommand():
            group = None if context is None else context.command
            commands = list(group.commands) if isinstance(group, click.Group) else []
            return f"dfq-deploy has no command '{problem.command_name}'{did_you_mean(problem.command_name, commands)}"
        case click.MissingParameter():
            return f"{_parameter(problem)} is missing; `{command} --help` shows examples"
        case click.BadParameter():
            return f"{_parameter(problem)}: {_sentence(problem.message)}"
        case click.UsageError() if problem.message.startswith("Got unexpected extra argument"):
            return _too_many(problem.message.partition("(")[2].rstrip(")").split(), command)
        case _:
            return _sentence(problem.format_message())


def _too_many(words: Sequence[str], command: str) -> str:
    """Arguments that no command takes; many of them are what a shell made of a pattern."""
    if all(NUMBER.fullmatch(word.rstrip(",")) for word in words):
        return f"'{words[0]}' is one argument too many; separate numbers by commas, as in --mean 0.485,0.456,0.406"
    if len(words) <= FEW_ARGUMENTS:
        return f"'{' '.join(words)}' is one argument too many; `{command} --help` shows examples"
    return (
        f"{len(words)} arguments too many, '{words[0]}' first: a shell replaces a pattern such as *.png by all files "
        "that fit; give the folder that holds them"
    )


def _options(command: click.Command) -> list[str]:
    return [name for option in command.params if isinstance(option, click.Option) for name in option.opts]


def _similar(name: str, known: Sequence[str], command: str) -> str:
    """A similar option, or how to list all: there are too many for one line."""
    hint = did_you_mean(name, known)
    return hint if "did you mean" in hint else f"; `{command} --help` lists its options"


def _parameter(problem: click.BadParameter) -> str:
    """The option or argument as the user writes it."""
    if isinstance(problem.param, click.Option):
        return problem.param.opts[0]
    return "the command line" if problem.param is None else problem.param.human_readable_name


def _sentence(text: str) -> str:
    """On one line, without a capital and a full stop."""
    line = " ".join(text.split()).removesuffix(".")
    word = line.partition(" ")[0]
    return line[:1].lower() + line[1:] if word.istitle() else line


def error_line(problem: BaseException) -> str:
    """The error in one line: what happened and what to do."""
    text = " ".join(str(problem).split())
    if isinstance(problem, DfqError):
        return text
    if isinstance(problem, KeyboardInterrupt):
        places = ", ".join(map(str, written()))
        return text or (f"interrupted: {places} was written before" if places else "interrupted: nothing was written")
    if is_out_of_memory(problem):
        return "not enough memory; use fewer samples (--samples) or a machine with more memory"
    if isinstance(problem, OSError):
        return f"{text}; nothing was written"
    return f"unexpected {type(problem).__name__}: {text or 'no message'}; run again with --debug and report it"
