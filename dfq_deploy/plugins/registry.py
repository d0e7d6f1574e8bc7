"""Find plug-ins by name through entry points."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dfq_deploy.errors import PluginError

__all__ = ["KINDS", "Plugin", "find_plugin", "installed_plugins"]

KINDS = ("synthesizers", "calibrators", "exporters")


@dataclass(frozen=True)
class Plugin:
    """One installed method.

    Args:
        kind: one of :data:`KINDS`.
        name: as the command line takes it.
        summary: its own one-line description; empty where it does not load.
        problem: why it does not load; empty where it does.
    """

    kind: str
    name: str
    summary: str
    problem: str


def _entries(kind: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"dfq_deploy.{kind}"):
        if entry.name in found and found[entry.name].value != entry.value:
            raise PluginError(
                f"two installed packages offer the {kind[:-1]} '{entry.name}': {found[entry.name].value} and "
                f"{entry.value}; uninstall one"
            )
        found[entry.name] = entry
    return found


def find_plugin(kind: str, name: str) -> Any:
    """The class of the method ``name`` of ``kind``.

    Raises:
        PluginError: it is not installed, or does not load.
    """
    entries = _entries(kind)
    if name not in entries:
        raise PluginError(f"no {kind[:-1]} '{name}'; installed: {', '.join(sorted(entries)) or 'none'}")
    try:
        return entries[name].load()
    except Exception as problem:  # other people's code runs here: it may fail in any way
        raise PluginError(f"the {kind[:-1]} '{name}' ({entries[name].value}) does not load: {problem}") from problem


def installed_plugins() -> list[Plugin]:
    """Every method that is installed, by kind and name, with the reason where one cannot load."""
    plugins = []
    for kind in KINDS:
        for name in sorted(_entries(kind)):
            try:
                plugins.append(Plugin(kind, name, str(getattr(find_plugin(kind, name), "summary", "")), ""))
            except PluginError as problem:
                plugins.append(Plugin(kind, name, "", str(problem)))
    return plugins
