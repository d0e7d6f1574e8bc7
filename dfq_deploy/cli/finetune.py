"""``dfq-deploy finetune``."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfq_deploy.cli import arguments
from dfq_deploy.cli.failures import wrong_usage
from dfq_deploy.cli.names import SYNTHESIZER
from dfq_deploy.cli.option_types import FILE, CountType
from dfq_deploy.cli.options import (
    calibrator_options,
    compare_option,
    data_option,
    fix_option,
    input_options,
    labels_option,
    override_options,
    preprocess_options,
    samples_option,
    synthesis_options,
    target_option,
)
from dfq_deploy.cli.shell import Guarded, Shell
from dfq_deploy.errors import DfqError

if TYPE_CHECKING:
    from dfq_deploy.quantization.bit_widths import Bits

__all__ = ["finetune"]


@click.command(cls=Guarded, short_help="Train the quantized model, for fewer bits.")
@click.argument("model", type=FILE)
@click.option("--synth", type=SYNTHESIZER, help="Synthesize the samples by this method.")
@data_option("Use given samples instead: a folder or zip of images, an .npz (such as samples.npz) or .npy.")
@click.option("--bits", required=True, metavar="w4a4", help="Bits of weights and activations, of every layer.")
@click.option("--edge-bits", type=CountType(2, 8), help="Bits of the first and the last layer.")
@target_option("The runtime to quantize for.")
@calibrator_options(
    "The calibrator that training starts from.", "A refinement before the training; repeatable; 'none' disables all."
)
@click.option("--epochs", type=CountType(1, 10), help="Passes over the samples.")
@override_options
@samples_option("How many samples to synthesize, or to take from --data.")
@labels_option
@input_options
@fix_option
@preprocess_options
@synthesis_options
@compare_option
@click.option("-o", "--output", type=FILE, metavar="DIR", help="The folder to write.  [default: MODEL-TARGET-BITS]")
@click.pass_obj
def finetune(
    shell: Shell,
    /,
    *,
    model: Path,
    bits: str,
    edge_bits: int | None,
    target: str,
    resume: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Train the quantized MODEL to agree with the float one, on samples that are made from the model itself.

    \b
    Every layer, including the first and the last, gets --bits; the input has 8 bits, the outputs are float.
    On several GPUs: torchrun --nproc-per-node 4 $(which dfq-deploy) finetune ...

    \b
    Examples:
      dfq-deploy finetune model.onnx --synth deepinversion --preprocess imagenet --bits w4a4
      dfq-deploy finetune model.onnx --data samples.npz --bits w3a3 --edge-bits 8
    """
    arguments.one_of_synth_and_data(options)
    arguments.no_synthesis({**options, "resume": None})  # --resume goes on with the training
    widths = _bits(bits, edge_bits)
    from dfq_deploy.cli.resuming import resumable
    from dfq_deploy.cli.views.progress import display
    from dfq_deploy.cli.views.results import show_calibration
    from dfq_deploy.cli.views.verdict import exit_status, verdict_line
    from dfq_deploy.files.claim import claimed
    from dfq_deploy.files.unfinished import unfinished_beside
    from dfq_deploy.pipeline.finetune import finetune as train

    preprocess, calibrator = arguments.preprocess(options), arguments.calibrator(options)
    overrides = arguments.overrides(options)
    synthesizer = None if options["synth"] is None else arguments.synthesizer(options, options["synth"])
    folder = arguments.output_folder(output) or Path(f"{model.stem}-{target}-{bits.strip().lower()}")
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts, one speaks
    unfinished = unfinished_beside(folder)
    with claimed(folder) if first else nullcontext(), display(shell) as progress, resumable(unfinished):
        try:
            result = train(
                model,
                synth=synthesizer,
                data=options["data"],
                bits=widths,
                target=target,
                method=calibrator,
                refine=arguments.refinements(options),
                teachers=options["teachers"],
                count=options["samples"],
                epochs=options["epochs"],
                preprocess=preprocess,
                seed=shell.seed,
                device=shell.device,
                output=folder,
                resume=resume,
                **arguments.inputs(options),
                **overrides,
                verifier=options["verifier"],
                tolerance=arguments.tolerance(options),
                statistics=options["statistics"],
                command=shell.command,
                compare=options["compare"],
                labels=options["labels"],
                progress=progress,
            )
        except KeyboardInterrupt:
            if (folder / "checkpoint.json").exists():
                raise DfqError("interrupted; the same command with --resume goes on") from None
            raise
    if shell.as_json and first:
        shell.emit({**result.report, "paths": [str(file) for file in result.files]})
    elif not shell.quiet and first:
        show_calibration(result, shell.verbose)
    if first and shell.quiet and not shell.as_json and exit_status(result.report.get("verdict")):
        verdict_line(result.report["verdict"], err=True)
    click.get_current_context().exit(exit_status(result.report.get("verdict")))


def _bits(text: str, edge: int | None) -> "Bits":
    from dfq_deploy.quantization.bit_widths import Bits

    with wrong_usage("--"):
        return Bits.parse(text, edge)
