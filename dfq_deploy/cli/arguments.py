"""Turn command-line options into the objects that the library takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfq_deploy.cli.failures import wrong_usage
from dfq_deploy.cli.plugin_options import synthesizer_of

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Synthesizer
    from dfq_deploy.samples.preprocess import Preprocess

__all__ = [
    "calibrator",
    "half_precision",
    "inputs",
    "limits",
    "no_synthesis",
    "one_of_synth_and_data",
    "output_folder",
    "overrides",
    "preprocess",
    "refinements",
    "resumption",
    "synth_or_data",
    "synthesizer",
    "tolerance",
    "widths",
]

Options = Mapping[str, Any]
"""The parameters of a command, by name."""


def one_of_synth_and_data(options: Options) -> None:
    """Require exactly one of ``--synth`` and ``--data``."""
    if (options["synth"] is None) == (options["data"] is None):
        raise click.UsageError("Give either --synth NAME (e.g. deepinversion) or --data PATH, and not both.")


def synth_or_data(options: Options) -> "str | Synthesizer | None":
    """The method of ``--synth``, ``auto`` if neither it nor ``--data`` is given; refuses both together."""
    from dfq_deploy.plugins.registry import AUTO

    if options["synth"] is not None and options["data"] is not None:
        raise click.UsageError("Give --synth NAME or --data PATH, and not both.")
    name = AUTO if options["synth"] is None and options["data"] is None else options["synth"]
    return None if name is None else synthesizer(options, name)


def preprocess(options: Options) -> "Preprocess | None":
    """The preprocess of ``--preprocess``, or of ``--mean`` and ``--std``; None if none of them is given."""
    from dfq_deploy.samples.preprocess import PREPROCESSES, preprocess_of_units

    name, mean, std = options["preprocess"], options["mean"], options["std"]
    if (mean is None) != (std is None):
        raise click.UsageError("--mean and --std must be given together.")
    if name is not None and mean is not None:
        raise click.UsageError("--preprocess and --mean/--std cannot be combined.")
    if mean is not None and std is not None:
        with wrong_usage("--mean and --std: "):
            return preprocess_of_units(mean, std)
    return None if name is None else PREPROCESSES[name]


def synthesizer(options: Options, name: str) -> "str | Synthesizer":
    """The method of that name with ``--iterations`` and ``--option``."""
    return synthesizer_of(name, options["iterations"], options["settings"])


def tolerance(options: Options) -> float | str:
    """``--tolerance``, or ``auto`` if it is not given; it cannot be combined with ``--iterations``."""
    value: float | None = options["tolerance"]
    if options["iterations"] is not None and value:
        raise click.UsageError("--iterations and --tolerance cannot be combined; give one of them.")
    return "auto" if value is None else value


def resumption(options: Options, unfinished: Path) -> dict[str, Any]:
    """The options of synthesis that do not belong to a method, as keywords of the library."""
    known = {"tolerance": tolerance(options), "statistics": options["statistics"], "unfinished": unfinished}
    return {**known, "verifier": options["verifier"], "resume": options["resume"]}


def calibrator(options: Options) -> str | None:
    """``--calibrator``, or the name that it had before, ``--method``; None if neither is given."""
    if options["method"] is None:
        return options["calibrator"]  # type: ignore[no-any-return]
    if options["calibrator"] is not None:
        raise click.UsageError("--method is the old name of --calibrator; give --calibrator alone.")
    click.echo("note: --method is now called --calibrator; the old name still works", err=True)
    return options["method"]  # type: ignore[no-any-return]


def refinements(options: Options) -> list[str] | None:
    """``--refine`` as a list of names, empty for ``none``; None if the option is not given."""
    return [name for name in options["refine"] if name != "none"] if options["refine"] else None


def inputs(options: Options) -> dict[str, Any]:
    """``--input-shape`` and ``--input-range``, by the name of the input; ``--main-input`` and ``--task``, and
    ``--fix-shapes`` where the command has it.
    """
    named = {name: dict(options[name]) for name in ("input_shapes", "input_ranges")}
    return {**named, **{name: options[name] for name in ("main_input", "task", "fix_shapes") if name in options}}


def overrides(options: Options) -> dict[str, Any]:
    """``--keep-float``, ``--exclude`` and ``--overrides``."""
    from dfq_deploy.quantization.overrides import Overrides

    with wrong_usage("--"):
        Overrides(tuple(options["keep_float"]), options["exclude"], ())
    return {name: options[name] for name in ("keep_float", "exclude", "overrides")}


def half_precision(options: Options, target: str) -> bool:
    """``--float16``, where the target takes such files."""
    from dfq_deploy.plugins.registry import exporter_for
    from dfq_deploy.targets.catalog import find_target

    with wrong_usage("--"):
        exporter_for(find_target(target), float16=options["float16"])
    return bool(options["float16"])


def limits(options: Options) -> dict[str, Any]:
    """``--floor``, ``--max-time`` and ``--max-slowdown``."""
    from dfq_deploy.pipeline.remedies.floor import limits_of

    given = {name: options[name] for name in ("floor", "max_time", "max_slowdown")}
    with wrong_usage("--"):
        limits_of(given)
    return given


def widths(options: Options) -> dict[str, Any]:
    """``--bits``, ``--edge-bits``, ``--size`` and ``--drop``."""
    from dfq_deploy.pipeline.options import widths_of

    given = {name: options[name] for name in ("bits", "edge_bits", "size", "drop")}
    with wrong_usage("--"):
        widths_of(**given)
    return given


def output_folder(output: Path | None) -> Path | None:
    """``-o`` of a command that writes a folder; refuses the name of a model."""
    if output is not None and output.suffix == ".onnx" and not output.is_dir():
        raise click.UsageError(
            f"-o {output}: a folder is written, with model.qdq.onnx in it; give a name like {output.stem}"
        )
    return output


def no_synthesis(options: Options) -> None:
    """Refuse options of synthesis beside ``--data``, which they would not change."""
    flags = {"resume": "--resume", "settings": "--option", "iterations": "--iterations", "tolerance": "--tolerance"}
    given = [
        flag for name, flag in {**flags, "statistics": "--statistics"}.items() if options[name] not in (None, (), False)
    ]
    if options["data"] is not None and given:
        raise click.UsageError(f"{given[0]} belongs to synthesis, and --data takes samples as they are; leave one out.")
