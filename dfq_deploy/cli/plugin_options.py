"""``--option KEY=VALUE``: read from the fields of a plug-in's dataclass."""

from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import click

from dfq_deploy.cli.failures import wrong_usage
from dfq_deploy.errors import DfqError, did_you_mean

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Exporter, Synthesizer

__all__ = ["complete_setting", "default_of", "exporter_of", "method_fields", "synthesizer_of"]

SCALARS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def synthesizer_of(name: str, iterations: int | None, settings: Sequence[str]) -> "str | Synthesizer":
    """The method by name, or the method itself if options are given; every method takes ``lowpass=RADIUS``.

    Raises:
        PluginError: it is not installed.
        click.UsageError: an option is unknown, or its value has another type.
    """
    from dfq_deploy.plugins import registry
    from dfq_deploy.plugins.mixture import SEPARATOR

    if name == registry.AUTO:
        if settings or iterations is not None:
            raise click.UsageError("--option and --iterations are of one method: name it, e.g. --synth deepinversion.")
        return name
    given = () if iterations is None else (f"iterations={iterations}",)
    kept = [setting for setting in settings if _pair(setting)[0] != "lowpass"]
    radius = [_pair(setting)[1] for setting in settings if _pair(setting)[0] == "lowpass"]
    method: str | Synthesizer
    if SEPARATOR in name:
        if kept or given:
            raise click.UsageError(f"The mixture '{name}' takes no options of its methods; only lowpass=RADIUS.")
        method = registry.synthesizer_of(name)
    else:
        method = _plugin_of("synthesizers", name, (*kept, *given))
    if not radius:
        return method
    from dfq_deploy.synthesis.methods.lowpass import low_passed

    with wrong_usage("--option "):
        return low_passed(registry.synthesizer_of(method), _converted("lowpass", radius[-1], float))


def exporter_of(name: str, settings: Sequence[str]) -> "str | Exporter":
    """The exporter by name, or the exporter itself if options are given.

    Raises:
        PluginError: it is not installed.
        click.UsageError: an option is unknown, or its value has another type.
    """
    exporter: str | Exporter = _plugin_of("exporters", name, settings)
    return exporter


def complete_setting(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """``KEY=`` for each option of the method that ``--synth`` names, or of the exporter that ``--to`` names."""
    from dfq_deploy.plugins.mixture import SEPARATOR
    from dfq_deploy.plugins.registry import AUTO, find_plugin

    plural = "exporters" if "to" in ctx.params else "synthesizers"
    name = next((ctx.params[key] for key in ("to", "synth", "method") if key in ctx.params), None)
    if name is None or name == AUTO or SEPARATOR in name:
        return []
    try:
        keys = [field.name for field, _ in method_fields(find_plugin(plural, name))]
    except DfqError:
        return []
    keys += ["lowpass"] if plural == "synthesizers" else []
    return [f"{key}=" for key in sorted(keys) if key.startswith(incomplete)]


def _plugin_of(plural: str, name: str, settings: Sequence[str]) -> Any:
    from dfq_deploy.plugins.registry import find_plugin

    kind = find_plugin(plural, name)
    given = dict(_pair(setting) for setting in settings)
    if not given:
        return name
    known = {field.name: hint for field, hint in method_fields(kind)}
    for key in given:
        if key not in known:
            names = sorted({*known, "lowpass"} if plural == "synthesizers" else known)
            noun = "method" if plural == "synthesizers" else plural[:-1]
            raise click.UsageError(f"The {noun} '{name}' has no option '{key}'{did_you_mean(key, names, 'it has')}.")
    values = {key: _converted(key, text, known[key]) for key, text in given.items()}
    with wrong_usage("--option "):
        return kind(**values)


def method_fields(kind: type) -> "list[tuple[Field[Any], Any]]":
    """The options of a method: its dataclass fields with their types."""
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in fields(kind) if field.init]


def default_of(field: "Field[Any]") -> Any:
    """The default of an option; None if it has none."""
    return None if field.default is MISSING else field.default


def _pair(setting: str) -> tuple[str, str]:
    key, equals, value = setting.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--option '{setting}' is not of the form KEY=VALUE.")
    return key.strip().replace("-", "_"), value.strip()


def _converted(key: str, text: str, hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, type(int | None)) else (hint,)
    if type(None) in options and text.lower() == "none":
        return None
    for option in options:
        if option is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if option in (int, float, str):
            try:
                return option(text)
            except ValueError:
                continue
    wanted = " or ".join(SCALARS.get(option, str(option)) for option in options if option is not type(None))
    raise click.UsageError(f"--option {key}: '{text}' is not {wanted}.")
