"""Click parameter types for names: checked, and completed by the shell."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from dfq_deploy.errors import DfqError, did_you_mean

__all__ = ["CALIBRATOR", "EXPORTER", "PREPROCESS", "REFINEMENT", "SYNTHESIZER", "TARGET", "NameType", "WordType"]


class WordType(click.ParamType[str]):
    """One of a few words."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.name = "|".join(words)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{self.name}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.words:
            self.fail(f"'{value}' is unknown{did_you_mean(str(value), self.words, 'choose one of')}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _beginning(incomplete, self.words)


class NameType(click.ParamType[str]):
    """The name of something installed.

    Args:
        known: returns the names to complete; they are loaded only then.
        check: raises a DfqError for a name that is unknown.
    """

    name = "NAME"

    def __init__(self, known: Callable[[], Iterable[str]], check: Callable[[str], object]) -> None:
        self.known, self.check = known, check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self.check(str(value))
        except DfqError as problem:
            self.fail(str(problem), param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _beginning(incomplete, self.known())


def _beginning(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _targets() -> list[str]:
    from dfq_deploy.targets.catalog import TARGETS

    return list(TARGETS)


def _check_target(name: str) -> None:
    from dfq_deploy.targets.catalog import find_target

    find_target(name)


def _installed(kind: str, *more: str) -> Callable[[], list[str]]:
    def names() -> list[str]:
        from dfq_deploy.plugins.registry import installed_names

        return [*more, *installed_names(kind)]

    return names


def _check_installed(kind: str) -> Callable[[str], None]:
    def check(name: str) -> None:
        from dfq_deploy.plugins.registry import require_installed

        require_installed(kind, name)

    return check


def _check_synthesizer(text: str) -> None:
    from dfq_deploy.plugins.mixture import SEPARATOR
    from dfq_deploy.plugins.registry import AUTO, require_installed

    for name in text.split(SEPARATOR) if text != AUTO else ():
        require_installed("synthesizers", name.strip())


def _refinements() -> list[str]:
    from dfq_deploy.refinement.registry import REFINEMENTS

    return ["none", *REFINEMENTS]


def _check_refinement(name: str) -> None:
    from dfq_deploy.refinement.registry import in_order

    in_order(() if name == "none" else (name,))


def _preprocesses() -> list[str]:
    from dfq_deploy.samples.preprocess import PREPROCESSES

    return list(PREPROCESSES)


def _check_preprocess(name: str) -> None:
    from dfq_deploy.errors import OptionError

    known = _preprocesses()
    if name not in known:
        hint = did_you_mean(name, known, "choose one of")
        raise OptionError(f"'{name}' is unknown{hint}{'' if 'did you mean' in hint else ', or give --mean and --std'}")


TARGET = NameType(_targets, _check_target)
SYNTHESIZER = NameType(_installed("synthesizers", "auto"), _check_synthesizer)
CALIBRATOR = NameType(_installed("calibrators"), _check_installed("calibrators"))
EXPORTER = NameType(_installed("exporters"), _check_installed("exporters"))
REFINEMENT = NameType(_refinements, _check_refinement)
PREPROCESS = NameType(_preprocesses, _check_preprocess)
