"""``dfq-deploy evaluate``."""

from pathlib import Path
from typing import Any

import click

from dfq_deploy.cli import arguments
from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.options import data_option, input_options, labels_option, preprocess_options, samples_option
from dfq_deploy.cli.shell import Guarded, Shell

__all__ = ["evaluate"]


@click.command(cls=Guarded, short_help="Compare a quantized model with the float one.")
@click.argument("float_model", metavar="FLOAT", type=FILE)
@click.argument("quantized_model", metavar="QUANTIZED", type=FILE)
@data_option("Real images, best with labels; without it pictures drawn by rule.")
@samples_option("Take at most so many of them, spread evenly; or draw so many pictures.  [default: all, or 256]")
@labels_option
@click.option("--latency", is_flag=True, help="Time both, in turns.")
@input_options
@preprocess_options
@click.pass_obj
def evaluate(
    shell: Shell, /, *, float_model: Path, quantized_model: Path, data: Path | None, latency: bool, **options: Any
) -> None:
    """Compare QUANTIZED (any tool's) with the FLOAT model that it was made from."""
    from dfq_deploy.cli.views.progress import display
    from dfq_deploy.cli.views.results import show_evaluation
    from dfq_deploy.evaluation.evaluate import evaluate as compare

    preprocess = arguments.preprocess(options)
    with display(shell) as progress:
        found = compare(
            float_model,
            quantized_model,
            data,
            count=options["samples"],
            labels=options["labels"],
            preprocess=preprocess,
            latency=latency,
            seed=shell.seed,
            device=shell.device,
            **arguments.inputs(options),
            progress=progress,
        )
    if shell.as_json:
        shell.emit(found.to_json())
    else:
        show_evaluation(found)
