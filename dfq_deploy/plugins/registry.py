"""Find plug-ins by name through entry points."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from dfq_deploy.errors import PluginError

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Calibrator, Exporter, Synthesizer

__all__ = [
    "KINDS",
    "Plugin",
    "calibrator_of",
    "exporter_of",
    "find_plugin",
    "installed_plugins",
    "synthesizer_of",
]

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


def synthesizer_of(synth: "str | Synthesizer") -> "Synthesizer":
    """A synthesis method, where it is given by name with its default options.

    Raises:
        PluginError: it is not installed, does not load, or is no Synthesizer.
    """
    from dfq_deploy.plugins.contracts import Synthesizer

    method: Synthesizer = _made("synthesizers", synth, Synthesizer)
    return method


def calibrator_of(method: "str | Calibrator") -> "Calibrator":
    """A calibrator, where it is given by name with its default options.

    Raises:
        PluginError: it is not installed, does not load, or is no Calibrator.
    """
    from dfq_deploy.plugins.contracts import Calibrator

    calibrator: Calibrator = _made("calibrators", method, Calibrator)
    return calibrator


def exporter_of(to: "str | Exporter") -> "Exporter":
    """An exporter, where it is given by name with its default options.

    Raises:
        PluginError: it is not installed, does not load, or is no Exporter.
    """
    from dfq_deploy.plugins.contracts import Exporter

    exporter: Exporter = _made("exporters", to, Exporter)
    return exporter


def _made(kind: str, given: Any, contract: type) -> Any:
    plugin = find_plugin(kind, given)() if isinstance(given, str) else given
    # The defaults of the contract are inherited, so that looking like a plug-in is not enough.
    if isinstance(plugin, type) or contract not in type(plugin).__mro__:
        name = f"class {plugin.__name__}" if isinstance(plugin, type) else type(plugin).__name__
        raise PluginError(
            f"{name} is no {kind[:-1]}: give a name, or an instance of a class that subclasses "
            f"{contract.__module__}.{contract.__name__}"
        )
    return plugin


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
