"""The command group, and the commands inspect, targets and methods."""

from pathlib import Path
from typing import Any

import click

from dfq_deploy.cli import arguments
from dfq_deploy.cli.calibrate import calibrate
from dfq_deploy.cli.check import check
from dfq_deploy.cli.evaluate import evaluate
from dfq_deploy.cli.export import export
from dfq_deploy.cli.failures import wrong_usage
from dfq_deploy.cli.finetune import finetune
from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.options import preprocess_options, shape_option, target_option, use_options
from dfq_deploy.cli.plans.init import init
from dfq_deploy.cli.plans.run import run
from dfq_deploy.cli.shell import CommandGroup, Guarded, Shell
from dfq_deploy.cli.synthesize import synthesize

__all__ = ["main"]

NO_MODEL = ("random", "device", "model", "summary", "details")
"""Of a command that reads no model and shows all it knows (:data:`dfq_deploy.cli.shell.EXCEPT`)."""


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="dfq-deploy", message="dfq-deploy %(version)s")
def main() -> None:
    """A float ONNX model in, an accurate INT8 model out, and not one training image.

    \b
    Typical usage:
      dfq-deploy inspect model.onnx
      dfq-deploy calibrate model.onnx --synth deepinversion --preprocess imagenet
      dfq-deploy evaluate model.onnx model-cpu/model.qdq.onnx --data photos --preprocess imagenet

    \b
    Exit status: 0, done; 1, a problem with a file or the machine; 2, wrong usage; 3, done, and the
    verdict is BAD. An error is one line on stderr that begins with "error: ".

    \b
    Completion by the shell (bash; the same with zsh or fish):
      eval "$(_DFQ_DEPLOY_COMPLETE=bash_source dfq-deploy)"
    """


@main.command(cls=Guarded, without=["device"], short_help="Show what is in a model, and what will cost accuracy.")
@click.argument("model", type=FILE)
@target_option("The runtime to inspect it for.")
@shape_option
@use_options
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Quantize one layer at a time, measure on procedural inputs, and list the most sensitive layers.",
)
@click.option("--bits", metavar="w8a8", help="With --sensitivity: bits of weights and activations.")
@preprocess_options
@click.pass_obj
def inspect(
    shell: Shell,
    /,
    *,
    model: Path,
    target: str,
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...],
    sensitivity: bool,
    bits: str | None,
    **options: Any,
) -> None:
    """Show what is in MODEL, which synthesis methods apply, what will cost accuracy or speed, and what to do.

    \b
    Examples:
      dfq-deploy inspect model.onnx
      dfq-deploy inspect model.onnx --target tensorrt
      dfq-deploy inspect model.onnx --sensitivity --preprocess imagenet
    """
    from dfq_deploy.cli.views.inspection import show_inspection
    from dfq_deploy.cli.views.progress import display
    from dfq_deploy.inspection.inspect import inspect as inspect_model
    from dfq_deploy.quantization.bit_widths import Bits

    preprocess = arguments.preprocess(options)
    if bits is not None:
        with wrong_usage("--"):
            Bits.parse(bits)
    if not sensitivity and (bits is not None or preprocess is not None):
        raise click.UsageError("--bits and --preprocess need --sensitivity.")
    with display(shell) as progress:
        inspection = inspect_model(
            model,
            target=target,
            input_shapes=dict(input_shapes),
            main_input=options["main_input"],
            task=options["task"],
            sensitivity=sensitivity,
            bits=bits,
            preprocess=preprocess,
            seed=shell.seed,
            progress=progress,
        )
    if shell.as_json:
        shell.emit(inspection.to_json())
    else:
        show_inspection(inspection, shell.verbose)


@main.command(cls=Guarded, without=NO_MODEL, short_help="List the runtimes.")
@click.pass_obj
def targets(shell: Shell, /) -> None:
    """List the runtimes that a model can be quantized for, and what each of them takes.

    \b
    Examples:
      dfq-deploy targets
      dfq-deploy targets --json
    """
    from dfq_deploy.cli.views.listing import show_targets, targets_document

    if shell.as_json:
        shell.emit(targets_document())
    else:
        show_targets()


@main.command(cls=Guarded, without=NO_MODEL[:-1], short_help="List the installed methods.")
@click.pass_obj
def methods(shell: Shell, /) -> None:
    """List the installed methods, calibrators, exporters and refinements, and report why one cannot be loaded.

    --verbose lists the options of each, for --option KEY=VALUE.

    \b
    Examples:
      dfq-deploy methods
      dfq-deploy methods --verbose
    """
    from dfq_deploy.cli.views.listing import methods_document, show_methods

    if shell.as_json:
        shell.emit(methods_document())
    else:
        show_methods(shell.verbose)


for command in (calibrate, check, evaluate, export, finetune, init, run, synthesize):
    main.add_command(command)
