"""Check what all plug-ins share: a frozen dataclass of options with a summary."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

__all__ = ["instance_of", "label", "require", "same_options"]

Plugin = TypeVar("Plugin")


def require(holds: bool, plugin: object, message: str) -> None:
    """Fail with the plug-in's name and ``message``.

    Raises:
        AssertionError: it does not hold.
    """
    if not holds:
        raise AssertionError(f"{label(plugin)}: {message}")


def label(plugin: object) -> str:
    """What errors call it."""
    return plugin.__name__ if isinstance(plugin, type) else type(plugin).__name__


def instance_of(plugin: type[Plugin] | Plugin, contract: type) -> Plugin:
    """An instance, with its default options where the class is given, whose form is that of a plug-in.

    Raises:
        AssertionError: it does not subclass ``contract``, is no frozen dataclass, cannot be made without arguments, or
            has no summary of one line.
    """
    kind: type = plugin if isinstance(plugin, type) else type(plugin)
    place = f"{contract.__module__}.{contract.__name__}"
    require(contract in kind.__mro__, plugin, f"does not subclass {place}, whose defaults it would inherit")
    require(is_dataclass(kind), plugin, "is no dataclass; its fields are its options: add @dataclass(frozen=True)")
    made: Any = _made(kind) if isinstance(plugin, type) else plugin
    _require_frozen(made)
    hints = get_type_hints(kind)
    missing = [entry.name for entry in fields(kind) if entry.name not in hints]
    require(not missing, plugin, f"the type of option '{', '.join(missing)}' cannot be found")
    summary = made.summary
    one_line = isinstance(summary, str) and bool(summary.strip()) and "\n" not in summary
    require(one_line, plugin, f"summary={summary!r}: one line of text is needed, for `dfq-deploy methods`")
    result: Plugin = made
    return result


def _made(kind: type) -> Any:
    try:
        return kind()
    except TypeError as problem:
        raise AssertionError(
            f"{kind.__name__}: cannot be made without arguments ({problem}); every option needs a default"
        ) from problem


def _require_frozen(plugin: Any) -> None:
    # Assigning tells what a decorator's parameters do not: a subclass may be frozen, and its base not.
    name = next((entry.name for entry in fields(plugin)), "option")
    before = getattr(plugin, name, None)
    try:
        setattr(plugin, name, before)
    except FrozenInstanceError:
        return
    require(False, plugin, "its options can be changed after it is made; decorate it with @dataclass(frozen=True)")


@contextmanager
def same_options(plugin: Any) -> Iterator[None]:
    """Require that the options are after the block what they were before.

    Raises:
        AssertionError: names the option that changed.
    """
    before = {entry.name: copy.deepcopy(getattr(plugin, entry.name)) for entry in fields(plugin)}
    yield
    for name, value in before.items():
        now = getattr(plugin, name)
        require(now == value, plugin, f"its option {name} was {value!r} and is {now!r} after use; options stay")
