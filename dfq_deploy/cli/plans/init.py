"""``dfq-deploy init``."""

import os
from pathlib import Path

import click

from dfq_deploy.cli.names import TARGET
from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.options import shape_option, use_options
from dfq_deploy.cli.shell import Guarded, Shell
from dfq_deploy.errors import OutputError

__all__ = ["init"]


@click.command(cls=Guarded, without=["random", "device", "details"], short_help="Write a plan for `dfq-deploy run`.")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=FILE)
@click.option("--target", "targets", multiple=True, type=TARGET, help="A target; repeatable.  [default: cpu]")
@shape_option
@use_options
@click.option(
    "-o", "--output", type=FILE, default=Path("plan.toml"), show_default=True, metavar="FILE", help="The plan to write."
)
@click.option("--force", is_flag=True, help="Replace the plan if there is one.")
@click.pass_obj
def init(
    shell: Shell,
    /,
    *,
    models: tuple[Path, ...],
    targets: tuple[str, ...],
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...],
    main_input: str | None,
    task: str | None,
    output: Path,
    force: bool,
) -> None:
    """Write a plan with comments for each MODEL, from what `inspect` finds.

    An existing file is replaced with --force only.

    \b
    Examples:
      dfq-deploy init model.onnx
      dfq-deploy init a.onnx b.onnx --target cpu --target tensorrt -o plans/both.toml
    """
    from dfq_deploy.cli.plans.template import plan_text
    from dfq_deploy.files.atomic import atomic_file
    from dfq_deploy.files.overwriting import refuse_overwriting
    from dfq_deploy.inspection.inspect import inspect
    from dfq_deploy.targets.catalog import DEFAULT_TARGET

    refuse_overwriting([output], models)
    existed = output.exists()
    if existed and not force:
        raise OutputError(f"{output} exists; give --force to replace it, or choose another place with -o")
    chosen = targets or (DEFAULT_TARGET,)
    found = [
        inspect(model, target=chosen[0], input_shapes=dict(input_shapes), main_input=main_input, task=task)
        for model in models
    ]
    paths = [Path(os.path.relpath(model, output.parent)).as_posix() for model in models]
    with atomic_file(output) as partial:
        partial.write_text(plan_text(list(zip(paths, found, strict=True)), chosen), encoding="utf-8")
    if shell.as_json:
        shell.emit({"plan": str(output), "replaced": existed, "models": paths, "targets": list(chosen)})
    elif not shell.quiet:
        click.echo(f"{'replaced' if existed else 'wrote'} {output}; next: dfq-deploy run {output} --list")
