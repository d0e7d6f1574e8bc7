"""``dfq-deploy export``."""

from pathlib import Path
from typing import Any

import click

from dfq_deploy.cli import arguments
from dfq_deploy.cli.names import EXPORTER, TARGET
from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.options import integer_option, preprocess_options, shape_option
from dfq_deploy.cli.plugin_options import complete_setting, exporter_of
from dfq_deploy.cli.shell import Guarded, Shell

__all__ = ["export"]


@click.command(cls=Guarded, without=["random", "device"], short_help="Write the file that a runtime loads.")
@click.argument("model", metavar="QUANTIZED", type=FILE)
@click.option("--to", required=True, type=EXPORTER, help="The exporter: qdq, ort, ... `dfq-deploy methods` lists all.")
@click.option(
    "--encodings",
    type=FILE,
    metavar="FILE",
    help="For a float model: encodings.json as written by calibrate, AIMET's, or a TensorRT calibration cache.",
)
@click.option("--target", type=TARGET, help="The runtime; by default the one that --to names, or cpu.")
@shape_option
@click.option(
    "--option",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_setting,
    help="An option of the exporter; repeatable. `dfq-deploy methods -v` lists them.",
)
@integer_option
@preprocess_options
@click.option("-o", "--output", type=FILE, metavar="PATH", help="The file to write.  [default: named after the model]")
@click.pass_obj
def export(
    shell: Shell,
    /,
    *,
    model: Path,
    to: str,
    encodings: Path | None,
    target: str | None,
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...],
    settings: tuple[str, ...],
    integer_io: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Write the file that a runtime loads, from a QUANTIZED file of any tool or a float one with --encodings.

    \b
    Examples:
      dfq-deploy export model-xnnpack/model.qdq.onnx --to ort -o model.ort
      dfq-deploy export model.onnx --to qdq --encodings model-cpu/encodings.json
      dfq-deploy export model-tensorrt/model.qdq.onnx --to tensorrt --option version=10.3
    """
    from dfq_deploy.cli.views.results import show_exported
    from dfq_deploy.pipeline.export import export as export_model
    from dfq_deploy.targets.catalog import TARGETS

    exported = export_model(
        model,
        to=exporter_of(to, settings),
        encodings=encodings,
        target=target or (to if to in TARGETS else None),
        input_shapes=dict(input_shapes),
        integer_io=integer_io,
        preprocess=arguments.preprocess(options),
        output=output,
    )
    if shell.as_json:
        shell.emit({"to": to, **exported.to_json()})
    elif not shell.quiet:
        show_exported(exported)
