"""The commands. Everything heavy is imported inside of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfq_deploy.cli.check import check
from dfq_deploy.cli.export import export
from dfq_deploy.cli.finetune import finetune
from dfq_deploy.cli.guard import Guarded, Shell
from dfq_deploy.cli.options import (
    FILE,
    bits_options,
    budget_options,
    data_option,
    input_options,
    integer_option,
    preprocess_of,
    preprocess_options,
    samples_option,
    shape_option,
    synthesis_options,
    synthesizer_of,
)
from dfq_deploy.cli.resuming import forget, resumable

if TYPE_CHECKING:
    from dfq_deploy.preprocess import Preprocess
    from dfq_deploy.samples import Samples
    from dfq_deploy.teachers import TeacherSource

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="dfq-deploy", message="dfq-deploy %(version)s")
def main() -> None:
    """A float ONNX model in, an accurate INT8 model out, and not one training image.

    \b
    The usual call:
      dfq-deploy calibrate model.onnx --synth deepinversion --preprocess imagenet
    """


@main.command(cls=Guarded, short_help="What is in a model, and what will hurt.")
@click.argument("model", type=FILE)
@click.option("--target", default="cpu", show_default=True, metavar="NAME", help="The runtime to look at it for.")
@shape_option
@click.pass_obj
def inspect(
    shell: Shell, /, *, model: Path, target: str, input_shapes: tuple[tuple[str, tuple[int, ...]], ...]
) -> None:
    """Say what is in MODEL, what can be synthesized from it, what will hurt, and what to do."""
    from dfq_deploy.cli.inspection import show_inspection
    from dfq_deploy.inspection import inspect as look

    found = look(model, target=target, input_shapes=dict(input_shapes))
    if shell.as_json:
        shell.emit(found.to_json())
    else:
        show_inspection(found, shell.verbose)


@main.command(cls=Guarded, short_help="Make samples from the model itself.")
@click.argument("model", type=FILE)
@click.option("--method", default="deepinversion", show_default=True, metavar="NAME", help="The synthesis method.")
@samples_option("How many; by default as many as suit the input's size.")
@input_options
@preprocess_options
@synthesis_options
@click.option(
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    help="The .npz to write; an .npy holds the images alone.  [default: MODEL-samples.npz]",
)
@click.pass_obj
def synthesize(
    shell: Shell,
    /,
    *,
    model: Path,
    method: str,
    samples: int | None,
    teachers: "tuple[TeacherSource, ...]",
    output: Path | None,
    **options: Any,
) -> None:
    """Make calibration samples from MODEL itself; write them, and a picture and the generator, if any, beside."""
    from dfq_deploy.cli.display import display
    from dfq_deploy.cli.generators import keeping
    from dfq_deploy.cli.show import show_samples
    from dfq_deploy.files import replacing
    from dfq_deploy.pictures import contact_sheet
    from dfq_deploy.pipeline import synthesize as make

    preprocess, synthesizer = _preprocess(options), _synthesizer(method, options)
    path = output or Path(f"{model.stem}-samples.npz")
    path = path / "samples.npz" if path.is_dir() else path
    picture = path.with_suffix(".png")
    synthesizer, generator = keeping(synthesizer, path)
    # Opened before the work, so that a place that cannot be written is known at once.
    unfinished = path.with_name(f"{path.name}.unfinished")
    with replacing(path) as partial:
        with display(shell) as progress, resumable(unfinished):
            made = make(
                model,
                synth=synthesizer,
                teachers=teachers,
                count=samples,
                preprocess=preprocess,
                seed=shell.seed,
                device=shell.device,
                **_inputs(options),
                **_going_on(options, unfinished),
                progress=progress,
            )
        made.save(partial)
        drawn = contact_sheet(made, preprocess, picture)
    forget(unfinished)
    files = (path, picture) if drawn else (path,)
    if generator is not None and made.method == method:
        files = (*files, generator)
    if shell.as_json:
        shell.emit({
            "samples": len(made),
            "shape": list(made.images.shape[1:]),
            "method": made.method,
            "figures": dict(made.figures),
            "warnings": list(made.notes),
            "files": [str(file) for file in files],
        })  # fmt: skip
    elif not shell.quiet:
        show_samples(made, files)


@main.command(cls=Guarded, short_help="Quantize a model to INT8.")
@click.argument("model", type=FILE)
@click.option("--synth", metavar="NAME", help="Synthesize the samples by this method.")
@data_option("Or take real ones: a folder or zip of images, an .npz or .npy.")
@click.option("--target", default="cpu", show_default=True, metavar="NAME", help="The runtime to quantize for.")
@click.option("--method", metavar="NAME", help="The calibrator; by default the one that measures best.")
@click.option("--refine", multiple=True, metavar="NAME", help="A refinement, repeatable; 'none' for none at all.")
@bits_options
@budget_options
@samples_option("How many samples to synthesize, or to take from --data.")
@input_options
@preprocess_options
@synthesis_options
@click.option("-o", "--output", type=FILE, metavar="DIR", help="The folder to write.  [default: MODEL-TARGET]")
@integer_option
@click.pass_obj
def calibrate(
    shell: Shell,
    /,
    *,
    model: Path,
    synth: str | None,
    data: Path | None,
    target: str,
    samples: int | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Quantize MODEL to INT8 for a target, with samples made from the model itself."""
    if (synth is None) == (data is None):
        raise click.UsageError("Give either --synth NAME (e.g. deepinversion) or --data PATH, and not both.")
    if data is not None and options["resume"]:
        raise click.UsageError("--resume goes on with a synthesis, and --data takes images as they are.")
    from dfq_deploy.cli.display import display
    from dfq_deploy.cli.show import show_calibration
    from dfq_deploy.pipeline import calibrate as quantize
    from dfq_deploy.targets import find_target

    preprocess, refine = _preprocess(options), options["refine"]
    find_target(target)
    made_by = None if synth is None else _synthesizer(synth, options)
    folder = output or Path(f"{model.stem}-{target}")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    with display(shell) as progress, resumable(unfinished):
        result = quantize(
            model,
            synth=made_by,
            data=None if data is None else _read(model, data, preprocess, samples, options),
            target=target,
            bits=options["bits"],
            edge_bits=options["edge_bits"],
            size=options["size"],
            drop=options["drop"],
            method=options["method"],
            refine=None if not refine else [name for name in refine if name != "none"],
            teachers=options["teachers"],
            count=samples,
            preprocess=preprocess,
            integer_io=options["integer_io"],
            seed=shell.seed,
            device=shell.device,
            **_inputs(options),
            **_going_on(options, unfinished),
            output=folder,
            progress=progress,
        )
    if shell.as_json:
        shell.emit({**result.report, "paths": [str(file) for file in result.files]})
    elif not shell.quiet:
        show_calibration(result, shell.verbose)


main.add_command(check)
main.add_command(export)
main.add_command(finetune)


@main.command(cls=Guarded, short_help="Compare a quantized model with the float one.")
@click.argument("float_model", metavar="FLOAT", type=FILE)
@click.argument("quantized_model", metavar="QUANTIZED", type=FILE)
@data_option("Real images, best with labels; without it pictures drawn by rule.")
@samples_option("Take at most so many of them, spread evenly.")
@click.option("--latency", is_flag=True, help="Time both, in turns.")
@input_options
@preprocess_options
@click.pass_obj
def evaluate(
    shell: Shell,
    /,
    *,
    float_model: Path,
    quantized_model: Path,
    data: Path | None,
    samples: int | None,
    latency: bool,
    **options: Any,
) -> None:
    """Compare QUANTIZED (any tool's) with the FLOAT model that it was made from."""
    from dfq_deploy.cli.display import display
    from dfq_deploy.cli.show import show_evaluation
    from dfq_deploy.evaluation.models import evaluate as compare

    preprocess = _preprocess(options)
    with display(shell) as progress:
        found = compare(
            float_model,
            quantized_model,
            None if data is None else _read(float_model, data, preprocess, samples, options),
            source="" if data is None else str(data),
            preprocess=preprocess,
            latency=latency,
            seed=shell.seed,
            device=shell.device,
            **_inputs(options),
            progress=progress,
        )
    if shell.as_json:
        shell.emit(found.to_json())
    else:
        show_evaluation(found)


@main.command(cls=Guarded, short_help="List the runtimes.")
@click.pass_obj
def targets(shell: Shell, /) -> None:
    """List the runtimes that a model can be quantized for."""
    from dfq_deploy.cli.listing import show_targets, targets_document

    if shell.as_json:
        shell.emit(targets_document())
    else:
        show_targets()


@main.command(cls=Guarded, short_help="List the installed methods.")
@click.pass_obj
def methods(shell: Shell, /) -> None:
    """List the methods that are installed, and why something cannot load."""
    from dfq_deploy.cli.listing import methods_document, show_methods

    if shell.as_json:
        shell.emit(methods_document())
    else:
        show_methods(shell.verbose)


def _preprocess(options: dict[str, Any]) -> "Preprocess | None":
    return preprocess_of(options["preprocess"], options["mean"], options["std"])


def _synthesizer(name: str, options: dict[str, Any]) -> Any:
    return synthesizer_of(name, options["iterations"], options["settings"])


def _going_on(options: dict[str, Any], unfinished: Path) -> dict[str, Any]:
    """What of synthesis is no option of a method; ``--iterations`` is a fixed number, so no tolerance ends it."""
    tolerance = options["tolerance"]
    if options["iterations"] is not None and tolerance:
        raise click.UsageError("--iterations fixes their number, and --tolerance ends them earlier: give one of them.")
    known = {"tolerance": "auto" if tolerance is None else tolerance or None, "unfinished": unfinished}
    return {**known, "verifier": options["verifier"], "resume": options["resume"]}


def _inputs(options: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(options[name]) for name in ("input_shapes", "input_ranges")}


def _read(
    model: Path, data: Path, preprocess: "Preprocess | None", limit: int | None, options: dict[str, Any]
) -> "Samples":
    from dfq_deploy import graph
    from dfq_deploy.data import read

    loaded = graph.load(model, input_shapes=dict(options["input_shapes"]))
    return read(data, preprocess, graph.sample_shape(loaded), limit, turned=graph.is_channels_last(loaded))
