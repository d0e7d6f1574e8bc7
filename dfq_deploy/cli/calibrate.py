"""``dfq-deploy calibrate``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfq_deploy.cli import arguments
from dfq_deploy.cli.names import SYNTHESIZER, WordType
from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.options import (
    bits_options,
    budget_options,
    calibrator_options,
    compare_option,
    data_option,
    fix_option,
    floor_options,
    input_options,
    integer_option,
    labels_option,
    override_options,
    preprocess_options,
    samples_option,
    synthesis_options,
    target_option,
)
from dfq_deploy.cli.resuming import resumable
from dfq_deploy.cli.shell import Guarded, Shell

if TYPE_CHECKING:
    from dfq_deploy.pipeline.results import Calibration
    from dfq_deploy.progress import Progress

__all__ = ["calibrate", "calibration_keywords", "run_calibration"]


@click.command(cls=Guarded, short_help="Quantize a model to INT8.")
@click.argument("model", type=FILE)
@click.option("--synth", type=SYNTHESIZER, help="The synthesis method.  [default: auto, the best at these bits]")
@data_option("Use real samples instead: a folder or zip of images, an .npz or .npy.")
@target_option("The runtime to quantize for.")
@calibrator_options(
    "The calibrator; by default the most accurate one in benchmarks.", "A refinement; repeatable; 'none' disables all."
)
@click.option(
    "--activations",
    type=WordType(["auto", "static", "dynamic", "float"]),
    default="auto",
    show_default=True,
    help="Ranges of activations: static ones, measured before, or dynamic ones, computed at run time; auto measures "
    "both where most of the model is MatMul or Gemm, and takes the better. float quantizes weights alone, those of "
    "large MatMul and Gemm, in blocks (--bits w4a8 in 4 bits).",
)
@bits_options
@budget_options
@override_options
@floor_options
@samples_option("How many samples to synthesize, or to take from --data.")
@labels_option
@input_options
@fix_option
@preprocess_options
@synthesis_options
@compare_option
@click.option("-o", "--output", type=FILE, metavar="DIR", help="The folder to write.  [default: MODEL-TARGET]")
@integer_option
@click.option("--float16", is_flag=True, help="Type what stays in float as half precision (target tensorrt).")
@click.pass_obj
def calibrate(shell: Shell, /, *, model: Path, target: str, output: Path | None, **options: Any) -> None:
    """Quantize MODEL to INT8 for a target, with samples made from the model itself.

    The last line is the verdict: OK, CHECK or BAD with its reason. With --data, nothing is synthesized.

    Exit status 0: OK or CHECK. 1: a problem with a file or the machine. 2: wrong usage. 3: BAD.

    \b
    Examples:
      dfq-deploy calibrate model.onnx --preprocess imagenet
      dfq-deploy calibrate model.onnx --synth deepinversion --preprocess imagenet --target tensorrt
      dfq-deploy calibrate model.onnx --data photos --preprocess imagenet --calibrator percentile
      dfq-deploy calibrate model.onnx --bits w4a8 --floor agreement=99
    """
    from dfq_deploy.cli.views.progress import display
    from dfq_deploy.cli.views.results import show_calibration
    from dfq_deploy.cli.views.verdict import exit_status, verdict_line

    folder = arguments.output_folder(output) or Path(f"{model.stem}-{target}")
    keywords = calibration_keywords(shell, folder, {**options, "target": target})
    with display(shell) as progress:
        result = run_calibration(model, keywords, progress)
    if shell.as_json:
        shell.emit({**result.report, "paths": [str(file) for file in result.files]})
    elif not shell.quiet:
        show_calibration(result, shell.verbose)
    if shell.quiet and not shell.as_json and exit_status(result.report.get("verdict")):
        verdict_line(result.report["verdict"], err=True)
    click.get_current_context().exit(exit_status(result.report.get("verdict")))


def calibration_keywords(shell: Shell, folder: Path, options: arguments.Options) -> dict[str, Any]:
    """The keywords of :func:`dfq_deploy.calibrate` for the options of the command.

    Args:
        folder: for the results.
        options: by the names of the parameters.

    Raises:
        click.UsageError: two options contradict each other, or have values that are wrong whatever the model is.
    """
    from dfq_deploy.files.unfinished import unfinished_beside

    synthesizer = arguments.synth_or_data(options)
    arguments.no_synthesis(options)
    return {
        "synth": synthesizer,
        "data": options["data"],
        "target": options["target"],
        "activations": options["activations"],
        "method": arguments.calibrator(options),
        "refine": arguments.refinements(options),
        "teachers": options["teachers"],
        "count": options["samples"],
        "preprocess": arguments.preprocess(options),
        "integer_io": options["integer_io"],
        "float16": arguments.half_precision(options, options["target"]),
        "seed": shell.seed,
        "device": shell.device,
        **arguments.widths(options),
        **arguments.inputs(options),
        **arguments.overrides(options),
        **arguments.limits(options),
        **arguments.resumption(options, unfinished_beside(folder)),
        "output": folder,
        "command": shell.command,
        "compare": options["compare"],
        "labels": options["labels"],
    }


def run_calibration(model: Path, keywords: Mapping[str, Any], progress: "Progress") -> "Calibration":
    """Quantize ``model``; no other run may write to the same folder meanwhile, and unfinished work can be resumed."""
    from dfq_deploy.files.claim import claimed
    from dfq_deploy.pipeline.calibrate import calibrate as quantize

    with claimed(keywords["output"]), resumable(keywords["unfinished"]):
        return quantize(model, **keywords, progress=progress)
