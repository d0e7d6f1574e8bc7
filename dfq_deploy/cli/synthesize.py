"""``dfq-deploy synthesize``."""

from pathlib import Path
from typing import Any

import click

from dfq_deploy.cli import given
from dfq_deploy.cli.guard import Guarded, Shell
from dfq_deploy.cli.options import input_options, preprocess_options, samples_option, synthesis_options
from dfq_deploy.cli.resuming import forget, resumable
from dfq_deploy.cli.types import FILE

__all__ = ["synthesize"]


@click.command(cls=Guarded, short_help="Make samples from the model itself.")
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
def synthesize(shell: Shell, /, *, model: Path, method: str, output: Path | None, **options: Any) -> None:
    """Make calibration samples from MODEL itself; write them, and a picture and the generator, if any, beside."""
    from dfq_deploy.cli.display import display
    from dfq_deploy.cli.generators import keeping
    from dfq_deploy.cli.show import show_samples
    from dfq_deploy.files import replacing
    from dfq_deploy.pictures import contact_sheet
    from dfq_deploy.pipeline import synthesize as make

    preprocess, synthesizer = given.preprocess(options), given.synthesizer(options, method)
    path = output or Path(f"{model.stem}-samples.npz")
    path = path / "samples.npz" if path.is_dir() else path
    picture = path.with_suffix(".png")
    synthesizer, generator = keeping(synthesizer, path)
    # Opened before the work, so that a place that cannot be written is known at once.
    unfinished = path.with_name(f"{path.name}.unfinished")
    with resumable(unfinished), replacing(path) as partial:
        with display(shell) as progress:
            made = make(
                model,
                synth=synthesizer,
                teachers=options["teachers"],
                count=options["samples"],
                preprocess=preprocess,
                seed=shell.seed,
                device=shell.device,
                **given.inputs(options),
                **given.resumption(options, unfinished),
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
