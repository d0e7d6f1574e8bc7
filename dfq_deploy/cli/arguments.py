"""Turn command-line options into the objects that the library takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfq_deploy.cli.plugin_options import synthesizer_of

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Synthesizer
    from dfq_deploy.samples.preprocess import Preprocess
    from dfq_deploy.samples.samples import Samples

__all__ = ["images", "inputs", "one_of_synth_and_data", "preprocess", "refinements", "resumption", "synthesizer"]

Options = Mapping[str, Any]
"""The parameters of a command, by name."""


def one_of_synth_and_data(options: Options) -> None:
    """Refuse both of ``--synth`` and ``--data``, and neither."""
    if (options["synth"] is None) == (options["data"] is None):
        raise click.UsageError("Give either --synth NAME (e.g. deepinversion) or --data PATH, and not both.")


def preprocess(options: Options) -> "Preprocess | None":
    """What ``--preprocess``, or ``--mean`` and ``--std``, describe; None where none of them is given."""
    from dfq_deploy.samples.preprocess import PREPROCESSES, preprocess_of_units

    name, mean, std = options["preprocess"], options["mean"], options["std"]
    if (mean is None) != (std is None):
        raise click.UsageError("--mean and --std go together.")
    if name is not None and mean is not None:
        raise click.UsageError("--preprocess and --mean/--std exclude each other.")
    if mean is not None and std is not None:
        try:
            return preprocess_of_units(mean, std)
        except ValueError as problem:
            raise click.UsageError(f"--mean and --std: {problem}.") from None
    if name is not None and name not in PREPROCESSES:
        raise click.UsageError(f"Unknown preprocess '{name}'; choose {', '.join(PREPROCESSES)}, or --mean and --std.")
    return None if name is None else PREPROCESSES[name]


def synthesizer(options: Options, name: str) -> "str | Synthesizer":
    """The method of that name with ``--iterations`` and ``--option``."""
    return synthesizer_of(name, options["iterations"], options["settings"])


def resumption(options: Options, unfinished: Path) -> dict[str, Any]:
    """What of synthesis is no option of a method; ``--iterations`` is a fixed number, so no tolerance ends it."""
    tolerance = options["tolerance"]
    if options["iterations"] is not None and tolerance:
        raise click.UsageError("--iterations fixes their number, and --tolerance ends them earlier: give one of them.")
    known = {"tolerance": "auto" if tolerance is None else tolerance or None, "unfinished": unfinished}
    return {**known, "verifier": options["verifier"], "resume": options["resume"]}


def refinements(options: Options) -> list[str] | None:
    """``--refine``: names, none of them for ``none``; None where nothing is said."""
    return [name for name in options["refine"] if name != "none"] if options["refine"] else None


def inputs(options: Options) -> dict[str, Any]:
    """``--input-shape`` and ``--input-range``, by the name of the input."""
    return {name: dict(options[name]) for name in ("input_shapes", "input_ranges")}


def images(options: Options, model: Path, preprocess: "Preprocess | None") -> "Samples | None":
    """What lies at ``--data``, at most ``--samples`` of it, as ``model`` takes it; None where there is none."""
    if options["data"] is None:
        return None
    from dfq_deploy.graph.inputs import is_channels_last, sample_shape
    from dfq_deploy.graph.loading import load
    from dfq_deploy.graph.query import score_count
    from dfq_deploy.samples.image_folder import read_samples
    from dfq_deploy.samples.labels import read_class_names

    loaded = load(model, input_shapes=dict(options["input_shapes"]))
    shape, turned = sample_shape(loaded), is_channels_last(loaded)
    file = options.get("labels")
    names = None if file is None else read_class_names(file)
    return read_samples(
        options["data"],
        preprocess,
        shape,
        options["samples"],
        turned=turned,
        classes=score_count(loaded),
        names=names,
    )
