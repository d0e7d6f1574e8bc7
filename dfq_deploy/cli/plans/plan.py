"""Read a plan: a TOML file with a table for each model.

docs/plans.md describes the format.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from dfq_deploy.cli.calibrate import calibrate, calibration_keywords
from dfq_deploy.cli.failures import usage_line
from dfq_deploy.cli.option_types import TeacherType
from dfq_deploy.cli.shell import COMMAND_LINE, Shell
from dfq_deploy.errors import OptionError, did_you_mean, first_line, similar_file
from dfq_deploy.targets.catalog import DEFAULT_TARGET

__all__ = ["Run", "read_plan"]

LARGEST = 2**20
"""Bytes of a plan: a larger file is something else."""

DEFAULTS, MODEL = "defaults", "model"

OWN_KEYS = ("path", "targets", "output")
"""What a plan has beside the options of ``calibrate``; ``output`` is the folder for all results of a model."""

INSTEAD = {
    "synth": {"data"},
    "data": {"synth"},
    "preprocess": {"mean", "std"},
    "mean": {"preprocess"},
    "std": {"preprocess"},
}
"""A default -> the keys of a model that take its place."""

NOT_IN_PLANS = frozenset(
    {"target", "method", "resume", "max_memory", "max_seconds", "as_json", "verbose", "quiet", "debug", "output"}
)
"""Parameters of ``calibrate`` that are given otherwise, or to ``dfq-deploy run`` itself."""


@dataclass(frozen=True)
class Run:
    """One calibration of a plan.

    Args:
        model: the model's file.
        target: name of the target.
        place: the table of the plan, for errors.
        keywords: of :func:`dfq_deploy.calibrate`, checked as far as that is possible without the model.
    """

    model: Path
    target: str
    place: str
    keywords: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder for the results."""
        folder: Path = self.keywords["output"]
        return folder


def read_plan(path: Path, shell: Shell) -> list[Run]:
    """The runs of the plan at ``path``: each model for each of its targets, in the order of the file.

    Paths in a plan are relative to its folder.

    Args:
        shell: seed and device, where the plan states none.

    Raises:
        OptionError: it is no plan, or a key or a value is wrong; the message names the line and the table.
    """
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as problem:
        raise OptionError(f"{path}: not a TOML file ({first_line(problem)}); docs/plans.md shows a plan") from None
    source = _Source(path, text)
    for name in document:
        if name not in (DEFAULTS, MODEL):
            hint = did_you_mean(name, (DEFAULTS, MODEL), "a plan has")
            raise OptionError(
                f"{source.place(name, None, name)}: unknown '{name}'{hint}; write [defaults] or [[model]]"
            )
    defaults, models = document.get(DEFAULTS, {}), document.get(MODEL, [])
    if not isinstance(defaults, dict):
        raise OptionError(f"{path}: 'defaults' is no table; write [defaults] above its keys")
    if not isinstance(models, list) or not models or not all(isinstance(table, dict) for table in models):
        raise OptionError(f"{path}: no models; begin each with [[model]]; `dfq-deploy init MODEL` writes a plan")
    source.check(defaults, DEFAULTS, None)
    runs: list[Run] = []
    for number, table in enumerate(models, 1):
        runs += _runs(source, _with_defaults(table, defaults), table, number, shell)
    _refuse_same_folders(path, runs)
    return runs


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise OptionError(f"{path}: {path.stat().st_size} bytes are no plan; docs/plans.md shows one")
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        way_out = similar_file(path) or "; `dfq-deploy init MODEL` writes a plan"
        raise OptionError(f"{path}: cannot be read ({problem.strerror}){way_out}") from None
    except UnicodeDecodeError:
        raise OptionError(f"{path}: not a text file; docs/plans.md shows a plan") from None


def known_options() -> dict[str, click.Option]:
    """Key in a plan -> the option of ``calibrate``."""
    options = (param for param in calibrate.params if isinstance(param, click.Option))
    names = {max(option.opts, key=len).removeprefix("--"): option for option in options}
    return {key: option for key, option in names.items() if option.name not in NOT_IN_PLANS}


@dataclass(frozen=True)
class _Source:
    """The text of a plan, for the places of errors."""

    path: Path
    text: str

    def place(self, table: str, number: int | None, key: str = "") -> str:
        """``FILE, line 7: [[model]] 2``: the table, and the line of ``key`` in it, where it is found."""
        shown = f"[{table}]" if number is None else f"[[{table}]] {number}"
        line = self._line(table, number, key)
        where = "" if line is None else f", line {line}"
        return f"{self.path}{where}" if table == key else f"{self.path}{where}: {shown}"

    def _line(self, table: str, number: int | None, key: str) -> int | None:
        seen, header = 0, re.compile(rf"\s*\[+\s*{re.escape(table)}\b")
        for index, line in enumerate(self.text.splitlines(), 1):
            if header.match(line):
                seen += line.lstrip().startswith("[[")
                if table == key:
                    return index
            elif seen == (number or 0) and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
                return index
        return None

    def check(self, table: Mapping[str, Any], name: str, number: int | None) -> None:
        """Refuse unknown keys."""
        known = [*OWN_KEYS, *known_options()]
        for key in table:
            if key.replace("_", "-") not in known:
                hint = did_you_mean(key, [*known, "targets"], "known keys")
                raise OptionError(f"{self.place(name, number, key)}: unknown key '{key}'{hint}")


def _with_defaults(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The table of a model with the defaults for what it does not state, in this or another way."""
    taken = {key for key in INSTEAD if not INSTEAD[key].isdisjoint(table)}
    return {**{key: value for key, value in defaults.items() if key not in taken}, **table}


def _runs(
    source: _Source, merged: Mapping[str, Any], own: Mapping[str, Any], number: int, shell: Shell
) -> Iterator[Run]:
    """One run for each target of a model."""
    source.check(own, MODEL, number)
    place = source.place(MODEL, number)
    path = merged.get("path")
    if not isinstance(path, str) or not path:
        raise OptionError(f'{place}: no model; write path = "model.onnx"')
    for target, settings in _targets(merged.get("targets", [DEFAULT_TARGET]), place).items():
        source.check(settings, MODEL, number)
        table = {key.replace("_", "-"): value for key, value in {**merged, **settings}.items()}
        yield _run(source, table, target, number, shell)


def _targets(given: Any, place: str) -> dict[str, Mapping[str, Any]]:
    """Target -> its own options, from a name, a list of names, or a table of tables."""
    targets = [given] if isinstance(given, str) else given
    if isinstance(targets, list) and targets and all(isinstance(name, str) for name in targets):
        return {name: {} for name in targets}
    if isinstance(targets, dict) and targets and all(isinstance(table, dict) for table in targets.values()):
        return dict(targets)
    raise OptionError(f'{place}: targets = {given!r} is no list of targets; write targets = ["cpu", "tensorrt"]')


def _run(source: _Source, table: Mapping[str, Any], target: str, number: int, shell: Shell) -> Run:
    options = known_options()
    base, words = source.path.parent, [str(table["path"]), f"--target={target}"]
    place = source.place(MODEL, number)
    for key, value in table.items():
        if key in options:
            words += _words(key, value, options[key], base, source.place(MODEL, number, key))
    model, output = base / table["path"], table.get("output", ".")
    if not isinstance(output, str):
        raise OptionError(f'{place}: output = {output!r} is no folder; write output = "int8"')
    folder = base / output / f"{model.stem}-{target}"
    try:
        with calibrate.make_context("calibrate", words) as context:
            own = {name: context.params[name] for name in ("seed", "device") if name in table}
            keywords = calibration_keywords(
                replace(shell, **own, command=context.meta[COMMAND_LINE]), folder, context.params
            )
    except click.ClickException as problem:
        option, message = getattr(problem, "param", None), usage_line(problem)
        key = "targets" if option is not None and option.name == "target" else ""
        key = next((name for name, known in options.items() if known is option), key)
        message = f"{key}: {message.partition(': ')[2]}" if key else message
        raise OptionError(f"{source.place(MODEL, number, key)}: {message}") from None
    return Run(model, target, place, keywords)


def _words(key: str, value: Any, option: click.Option, base: Path, place: str) -> list[str]:
    """An option of a plan as words of a command line."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise OptionError(f"{place}: {key} = {value!r} is neither true nor false")
        return [f"--{key}"] if value else []
    if isinstance(value, dict) and option.multiple:
        pairs = {name: _plain(each) for name, each in value.items()}
        texts = [
            None if text is None else f"{name}{'=' if key == 'option' else ':'}{text}" for name, text in pairs.items()
        ]
    else:
        texts = [_plain(each) for each in (value if isinstance(value, list) and option.multiple else [value])]
    values = [text for text in texts if text is not None]
    if not values or len(values) < len(texts):
        raise OptionError(f"{place}: {key} = {value!r} is not of a kind that this option takes; give text or a number")
    if isinstance(option.type, click.Path | TeacherType):
        values = [str(base / text) for text in values]
    return [f"--{key}={text}" for text in values]


def _plain(value: Any) -> str | None:
    """Text, a number, or a list of numbers as text; None if it is something else."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(each, int | float) for each in value):
        return ",".join(str(each) for each in value)
    return None


def _refuse_same_folders(path: Path, runs: list[Run]) -> None:
    """Two results in one folder: the second would replace the first."""
    seen: dict[Path, Run] = {}
    for run in runs:
        other = seen.setdefault(run.folder.resolve(), run)
        if other is not run:
            raise OptionError(
                f"{path}: {run.model.name} for {run.target} would be written to {run.folder}, as {other.model} is; "
                'give one of them another output = "FOLDER"'
            )
