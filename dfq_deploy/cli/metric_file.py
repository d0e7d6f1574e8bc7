"""Read ``--metric FILE.py:FUNCTION``, which runs the user's own code."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from importlib.abc import Loader
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from click.shell_completion import CompletionItem

__all__ = ["MetricType", "load_metric"]


class MetricType(click.ParamType[tuple[Path, str] | str]):
    """``FILE.py:FUNCTION``, or ``map``."""

    name = "FILE.py:FUNCTION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Path, str] | str:
        """The file and the name of the function; whether they exist is looked at later."""
        if isinstance(value, tuple):
            return value
        if value == "map":
            return "map"
        file, _, function = str(value).rpartition(":")
        if not file.endswith(".py") or not function.isidentifier():
            self.fail(f"'{value}' is neither map nor of the form FILE.py:FUNCTION, e.g. metric.py:f1", param, ctx)
        return Path(file), function

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files, for the shell to complete."""
        return [CompletionItem(incomplete, type="file")]


class _Unwritten(SourceFileLoader):
    """Leaves no compiled copy beside the file."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write nothing."""


def load_metric(path: Path, function: str) -> Callable[..., Any]:
    """The function of that name in a Python file, which is run; what it prints goes to stderr.

    The file can import what lies beside it.

    Raises:
        OptionError: there is no such file or function, or the file raises.
    """
    from dfq_deploy.errors import OptionError, one_line

    if not path.is_file():
        raise OptionError(f"--metric: {path}: no such file; give FILE.py:FUNCTION")
    if str(path.parent.resolve()) not in sys.path:
        sys.path.append(str(path.parent.resolve()))
    try:
        with redirect_stdout(sys.stderr):
            module = _imported(path)
    except (Exception, SystemExit) as problem:
        raise OptionError(
            f"--metric: {path} cannot be run: {type(problem).__name__}: {one_line(problem, 300) or 'no message'}"
        ) from problem
    found = getattr(module, function, None)
    if not callable(found):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        listed = f"it defines {', '.join(own)}" if own else "it defines none"
        raise OptionError(f"--metric: {path} has no function '{function}'; {listed}")
    return _quiet(found)


def _imported(path: Path) -> ModuleType:
    name = f"_metric_file_{path.stem}"
    loader: Loader = _Unwritten(name, str(path))
    spec = spec_from_loader(name, loader)
    if spec is None:
        raise ImportError(f"{path} is no module")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being run
    loader.exec_module(module)
    return module


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, whose prints cannot get into the JSON on stdout."""

    @wraps(function)
    def called(*arguments: Any) -> Any:
        with redirect_stdout(sys.stderr):
            return function(*arguments)

    return called
