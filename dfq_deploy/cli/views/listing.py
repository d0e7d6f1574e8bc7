"""Print ``targets`` and ``methods``, as tables and as JSON."""

from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from dfq_deploy.cli.plugin_options import default_of, method_fields
from dfq_deploy.cli.views.tables import facts, indented, page, table, title, warnings
from dfq_deploy.pipeline.calibrate import DEFAULT_METHOD
from dfq_deploy.plugins.registry import AUTO, KINDS, Plugin, find_plugin, installed_plugins
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.refinement.registry import REFINEMENTS, default_refinements
from dfq_deploy.targets.catalog import DEFAULT_TARGET, REFUSED, TARGETS
from dfq_deploy.targets.target import Style

__all__ = ["methods_document", "show_methods", "show_targets", "targets_document"]


DEFAULT_SYNTHESIZER = "deepinversion"
"""Of ``dfq-deploy synthesize``."""

STYLES: dict[Style, str] = {"kernels": "kernel in/outputs", "inputs": "layer inputs", "everything": "all tensors"}
"""Which tensors get Q and DQ, for a column of the table."""


def targets_document() -> dict[str, Any]:
    """What ``targets --json`` prints."""
    problems = {plugin.name: plugin.problem for plugin in installed_plugins() if plugin.kind == "exporters"}
    return {
        "targets": [
            {
                "name": target.name,
                "runtime": target.runtime,
                "activations": str(target.activation),
                "weights": str(target.weight),
                "per_channel": target.per_channel,
                "placement": target.style,
                "bias": "float" if target.float_bias else "s32",
                "static_shapes": target.static_shapes,
                "rules": list(target.rules),
                "exporter": target.exporter,
                "problem": problems.get(target.exporter, f"the exporter '{target.exporter}' is not installed"),
            }
            for target in TARGETS.values()
        ],
        "default": DEFAULT_TARGET,
        "refused": dict(REFUSED),
    }


def show_targets() -> None:
    """The table of targets."""
    document = targets_document()
    rows = [
        (
            f"{entry['name']} (default)" if entry["name"] == document["default"] else entry["name"],
            entry["activations"],
            f"{entry['weights']} {'per channel' if entry['per_channel'] else 'per tensor'}",
            STYLES[entry["placement"]],
            "static" if entry["static_shapes"] else "",
            entry["runtime"],
        )
        for entry in document["targets"]
    ]
    refused = facts(document["refused"].items())
    page(
        table(("target", "activations", "weights", "Q and DQ on", "shapes", "runtime"), rows),
        Group("", title("refused"), refused) if document["refused"] else None,
        warnings(f"{entry['name']}: {entry['problem']}" for entry in document["targets"] if entry["problem"]),
    )


def methods_document() -> dict[str, Any]:
    """What ``methods --json`` prints."""
    document: dict[str, Any] = {kind: [] for kind in KINDS}
    for plugin in installed_plugins():
        document[plugin.kind].append(
            {
                "name": plugin.name,
                "summary": plugin.summary,
                "problem": plugin.problem,
                "options": {} if plugin.problem else _options(plugin),
            }
        )
    return {
        **document,
        "refinements": [{"name": name, "summary": step.summary} for name, step in REFINEMENTS.items()],
        "defaults": {
            "synth": AUTO,
            "synthesize": DEFAULT_SYNTHESIZER,
            "calibrator": DEFAULT_METHOD,
            "method": DEFAULT_METHOD,
            "refine": list(default_refinements(Bits())),
            "refine_below_8_bits": list(default_refinements(Bits(4, 4))),
        },
    }


def _options(plugin: Plugin) -> dict[str, Any]:
    """Options that text can set, with their defaults."""
    known = method_fields(find_plugin(plugin.kind, plugin.name))
    options = {field.name: _plain(default_of(field)) for field, _ in known}
    return options | {"lowpass": None} if plugin.kind == "synthesizers" else options


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def show_methods(verbose: bool) -> None:
    """The methods by kind; with ``verbose`` their options too."""
    document = methods_document()
    defaults = document["defaults"]
    flags = {
        "synthesizers": "synthesize --method, calibrate --synth (default: auto, the best at the bits asked for)",
        "calibrators": "--calibrator",
        "exporters": "export --to; calibrate: chosen by --target",
    }
    marks = {defaults["synthesize"]: "default of synthesize", defaults["calibrator"]: "default"}
    parts: list[RenderableType] = []
    for kind, flag in flags.items():
        parts += [title(kind, flag)]
        for entry in document[kind]:
            mark = f"  ({marks[entry['name']]})" if entry["name"] in marks else ""
            parts += [facts([(f"{entry['name']:<16}", f"{entry['summary'] or entry['problem']}{mark}")])]
            if verbose and entry["options"]:
                listed = ", ".join(f"{name}={value}" for name, value in entry["options"].items())
                parts += [indented(indented(Text(listed, "dim")))]
        parts += [""]
    parts += [title("refinements", "--refine")]
    parts += [facts((f"{entry['name']:<16}", entry["summary"]) for entry in document["refinements"])]
    parts += [
        Text(
            f"\nDefaults: --calibrator {defaults['calibrator']} --refine {' --refine '.join(defaults['refine'])}; "
            f"below 8 bits --refine {' --refine '.join(defaults['refine_below_8_bits'])}",
            "dim",
        )
    ]
    page(*parts)
