"""``dfq-deploy evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfq_deploy.cli import arguments
from dfq_deploy.cli.failures import wrong_usage
from dfq_deploy.cli.metric_file import MetricType, load_metric
from dfq_deploy.cli.names import TARGET
from dfq_deploy.cli.option_types import FILE, NumberType
from dfq_deploy.cli.options import data_option, input_options, labels_option, preprocess_options, samples_option
from dfq_deploy.cli.shell import Guarded, Shell

if TYPE_CHECKING:
    from dfq_deploy.verdict.gates import Gates

__all__ = ["evaluate"]

GATES = ("min_agreement", "max_drop", "min_snr", "min_metric")


@click.command(cls=Guarded, short_help="Compare a quantized model with the float one, and judge it.")
@click.argument("float_model", metavar="FLOAT", type=FILE)
@click.argument("quantized_model", metavar="QUANTIZED", type=FILE)
@data_option("Real images, preferably with labels; by default procedural images are used.")
@samples_option("Samples of --data to use at most, spread evenly; or images to generate.  [default: all, or 256]")
@labels_option
@click.option("--latency", is_flag=True, help="Time both models alternately; slower than float is BAD.")
@click.option(
    "--target", type=TARGET, help="The runtime that QUANTIZED is for.  [default: layers are counted as on cpu]"
)
@click.option(
    "--min-agreement",
    type=NumberType("a percentage from 0 to 100", lambda number: 0 <= number <= 100),
    metavar="PERCENT",
    help="Gate: least percentage of inputs with the same class from both models; predicted without --data.",
)
@click.option(
    "--max-drop",
    type=NumberType("a finite number of points"),
    metavar="POINTS",
    help="Gate: largest drop of top-1 in points, which needs labels; with --metric, largest drop of the metric.",
)
@click.option(
    "--min-snr",
    type=NumberType("a finite number of dB"),
    metavar="DB",
    help="Gate: least signal-to-noise ratio of the worst output.",
)
@click.option(
    "--metric",
    type=MetricType(),
    metavar="FILE.py:FUNCTION|map",
    help="map: mean average precision of a detector. Or your own metric, higher is better: FUNCTION(outputs, labels), "
    "all outputs by name; executes FILE.py.",
)
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The true boxes for --metric map: a COCO JSON file, or a folder of YOLO .txt files.  [default: what FLOAT "
    "detects]",
)
@click.option(
    "--min-metric",
    type=NumberType("a finite number"),
    metavar="VALUE",
    help="Gate: least value of --metric for QUANTIZED.",
)
@input_options
@preprocess_options
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    *,
    float_model: Path,
    quantized_model: Path,
    data: Path | None,
    metric: tuple[Path, str] | str | None,
    **options: Any,
) -> None:
    """Compare QUANTIZED, written by any tool, with the FLOAT model that it was made from, and judge it.

    The last line is the verdict: OK, CHECK or BAD with its reason. Gates replace the default thresholds; a wrong scale
    is BAD regardless of the gates.

    Exit status 0: OK or CHECK. 1: the files cannot be compared. 3: BAD.

    \b
    Examples:
      dfq-deploy evaluate model.onnx int8/model.qdq.onnx
      dfq-deploy evaluate model.onnx int8.onnx --data photos --preprocess imagenet --max-drop 1
      dfq-deploy evaluate model.onnx int8.onnx --data set.npz --metric metric.py:f1 --min-metric 0.9
      dfq-deploy evaluate yolo.onnx int8.onnx --data images --preprocess zero-one --metric map --annotations labels
    """
    from dfq_deploy.cli.views.evaluation import show_judged
    from dfq_deploy.cli.views.progress import display
    from dfq_deploy.cli.views.verdict import exit_status
    from dfq_deploy.pipeline.evaluate import evaluate as judged

    shell: Shell = ctx.obj
    preprocess, gates = arguments.preprocess(options), _gates(options, data, metric)
    own = load_metric(*metric) if isinstance(metric, tuple) else metric
    with display(shell) as progress:
        found = judged(
            float_model,
            quantized_model,
            data,
            count=options["samples"],
            labels=options["labels"],
            preprocess=preprocess,
            latency=options["latency"],
            metric=own,
            annotations=options["annotations"],
            gates=gates,
            target=options["target"],
            seed=shell.seed,
            device=shell.device,
            command=shell.command,
            **arguments.inputs(options),
            progress=progress,
        )
    if shell.as_json:
        shell.emit(found.to_json())
    else:
        show_judged(found)
    ctx.exit(exit_status(found.verdict.to_json()))


def _gates(options: arguments.Options, data: Path | None, metric: tuple[Path, str] | str | None) -> "Gates":
    """The gates; what cannot be bounded whatever the files hold is wrong usage."""
    from dfq_deploy.verdict.gates import Gates

    with wrong_usage():
        gates = Gates(**{name: options[name] for name in GATES})
        gates.check(has_metric=metric is not None, has_labels=data is not None)
    return gates
