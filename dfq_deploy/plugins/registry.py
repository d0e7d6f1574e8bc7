"""Find plug-ins by name through entry points."""

from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from dfq_deploy.errors import OptionError, PluginError, did_you_mean
from dfq_deploy.targets.target import Target

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Calibrator, Exporter, Synthesizer

__all__ = [
    "AUTO",
    "KINDS",
    "Plugin",
    "calibrator_of",
    "exporter_for",
    "exporter_of",
    "find_plugin",
    "installed_names",
    "installed_plugins",
    "require_installed",
    "synthesizer_of",
]

AUTO = "auto"
"""In place of a synthesis method: the one that measures best (:mod:`dfq_deploy.synthesis.choice`)."""

KINDS = ("synthesizers", "calibrators", "exporters")


@dataclass(frozen=True)
class Plugin:
    """One installed plug-in.

    Args:
        kind: one of :data:`KINDS`.
        name: as on the command line.
        summary: its one-line description; empty if it cannot be loaded.
        problem: why it cannot be loaded; empty if it can.
    """

    kind: str
    name: str
    summary: str
    problem: str


def _entries(kind: str) -> dict[str, EntryPoint]:
    entries: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"dfq_deploy.{kind}"):
        if entry.name in entries and entries[entry.name].value != entry.value:
            raise PluginError(
                f"two installed packages offer the {kind[:-1]} '{entry.name}': {entries[entry.name].value} and "
                f"{entry.value}; uninstall one"
            )
        entries[entry.name] = entry
    return entries


def installed_names(kind: str) -> list[str]:
    """Names of the installed plug-ins of ``kind``, sorted; none of them is loaded."""
    return sorted(_entries(kind))


def require_installed(kind: str, name: str) -> None:
    """Check that a plug-in ``name`` of ``kind`` is installed; it is not loaded.

    Raises:
        PluginError: it is not.
    """
    entries = _entries(kind)
    if name not in entries:
        raise PluginError(f"no {kind[:-1]} '{name}'{did_you_mean(name, sorted(entries))}")


def find_plugin(kind: str, name: str) -> Any:
    """The class of the plug-in ``name`` of ``kind``.

    Raises:
        PluginError: it is not installed, or does not load.
    """
    require_installed(kind, name)
    entries = _entries(kind)
    try:
        return entries[name].load()
    except Exception as problem:  # third-party code runs here: it may raise anything
        raise PluginError(f"the {kind[:-1]} '{name}' ({entries[name].value}) does not load: {problem}") from problem


def synthesizer_of(synth: "str | Synthesizer") -> "Synthesizer":
    """Resolve a synthesis method: a name stands for the method with its default options, ``a+b`` for a mixture of two.

    Raises:
        PluginError: it is not installed, does not load, or is not a Synthesizer.
    """
    from dfq_deploy.plugins.contracts import Synthesizer
    from dfq_deploy.plugins.mixture import SEPARATOR, Mixture

    if isinstance(synth, str) and SEPARATOR in synth:
        return Mixture(tuple(synthesizer_of(name.strip()) for name in synth.split(SEPARATOR)))
    method: Synthesizer = _instance("synthesizers", synth, Synthesizer)
    return method


def calibrator_of(method: "str | Calibrator") -> "Calibrator":
    """Resolve a calibrator: a name stands for the calibrator with its default options.

    Raises:
        PluginError: it is not installed, does not load, or is not a Calibrator.
    """
    from dfq_deploy.plugins.contracts import Calibrator

    calibrator: Calibrator = _instance("calibrators", method, Calibrator)
    return calibrator


def exporter_of(to: "str | Exporter") -> "Exporter":
    """Resolve an exporter: a name stands for the exporter with its default options.

    Raises:
        PluginError: it is not installed, does not load, or is not an Exporter.
    """
    from dfq_deploy.plugins.contracts import Exporter

    exporter: Exporter = _instance("exporters", to, Exporter)
    return exporter


def exporter_for(target: Target, *, float16: bool = False) -> "Exporter":
    """The exporter of a target.

    Args:
        float16: with its option to compute in half precision what stays in float.

    Raises:
        OptionError: the target does not take such files.
        PluginError: as :func:`exporter_of`.
    """
    exporter: Any = exporter_of(target.exporter)
    if not float16:
        return exporter  # type: ignore[no-any-return]
    if not target.float16:
        raise OptionError(f"float16: for target '{target.name}' the rest is float32; leave --float16 out")
    return replace(exporter, float16=True)  # type: ignore[no-any-return]


def _instance(kind: str, name_or_plugin: Any, contract: type) -> Any:
    plugin = find_plugin(kind, name_or_plugin)() if isinstance(name_or_plugin, str) else name_or_plugin
    # Plug-ins inherit the defaults of the contract, so that structural typing is not enough.
    if isinstance(plugin, type) or contract not in type(plugin).__mro__:
        name = f"class {plugin.__name__}" if isinstance(plugin, type) else type(plugin).__name__
        raise PluginError(
            f"{name} is not a valid {kind[:-1]}: give a name, or an instance of a class that subclasses "
            f"{contract.__module__}.{contract.__name__}"
        )
    return plugin


def installed_plugins() -> list[Plugin]:
    """All installed plug-ins, by kind and name; one that cannot be loaded comes with the reason."""
    plugins = []
    for kind in KINDS:
        for name in sorted(_entries(kind)):
            try:
                plugins.append(Plugin(kind, name, str(getattr(find_plugin(kind, name), "summary", "")), ""))
            except PluginError as problem:
                plugins.append(Plugin(kind, name, "", str(problem)))
    return plugins
