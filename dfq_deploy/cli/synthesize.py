"""``dfq-deploy synthesize``."""

from pathlib import Path
from typing import Any

import click

from dfq_deploy.cli import arguments
from dfq_deploy.cli.names import SYNTHESIZER
from dfq_deploy.cli.option_types import FILE
from dfq_deploy.cli.options import input_options, preprocess_options, samples_option, synthesis_options
from dfq_deploy.cli.resuming import resumable
from dfq_deploy.cli.shell import Guarded, Shell
from dfq_deploy.files.unfinished import remove_unfinished

__all__ = ["synthesize"]


@click.command(cls=Guarded, short_help="Make samples from the model itself.")
@click.argument("model", type=FILE)
@click.option("--method", type=SYNTHESIZER, default="deepinversion", show_default=True, help="The synthesis method.")
@samples_option("Number of samples; by default it depends on the size of the input.")
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
    """Make calibration samples from MODEL itself.

    Writes the samples, a picture that shows them, and the generator if the method trains one.

    \b
    Examples:
      dfq-deploy synthesize model.onnx --preprocess imagenet
      dfq-deploy synthesize model.onnx --method zeroq --samples 64 -o samples.npz
      dfq-deploy synthesize folded.onnx --teacher model.onnx --iterations 500
    """
    from dfq_deploy.cli.generators import save_generator_beside
    from dfq_deploy.cli.views.progress import display
    from dfq_deploy.cli.views.results import show_samples
    from dfq_deploy.files.atomic import atomic_files
    from dfq_deploy.files.claim import claimed
    from dfq_deploy.files.overwriting import refuse_overwriting
    from dfq_deploy.pipeline.synthesize import synthesize as make_samples
    from dfq_deploy.samples.contact_sheet import contact_sheet

    preprocess, synthesizer = arguments.preprocess(options), arguments.synthesizer(options, method)
    path = output or Path(f"{model.stem}-samples.npz")
    path = path / "samples.npz" if path.is_dir() else path
    picture = path.with_suffix(".png")
    refuse_overwriting((path, picture), (model, options["verifier"], *options["teachers"]))
    unfinished = path.with_name(f"{path.name}.unfinished")
    synthesizer, generator = save_generator_beside(synthesizer, path, unfinished)
    # Opened before the work, so that a place that cannot be written is known at once.
    with claimed(path), resumable(unfinished), atomic_files(path, (picture, *generator.companions)) as folder:
        with display(shell) as progress:
            samples = make_samples(
                model,
                synth=synthesizer,
                teachers=options["teachers"],
                count=options["samples"],
                preprocess=preprocess,
                seed=shell.seed,
                device=shell.device,
                **arguments.inputs(options),
                **arguments.resumption(options, unfinished),
                progress=progress,
            )
        samples.save(folder / path.name)
        drawn = contact_sheet(samples, preprocess, folder / picture.name)
        generator.move_into(folder)
    remove_unfinished(unfinished)
    files = (path, picture) if drawn else (path,)
    if generator.path is not None and samples.method == method:
        files = (*files, generator.path)
    if shell.as_json:
        shell.emit({
            "samples": len(samples),
            "shape": list(samples.images.shape[1:]),
            "method": samples.method,
            "figures": dict(samples.figures),
            "warnings": list(samples.notes),
            "files": [str(file) for file in files],
        })  # fmt: skip
    elif not shell.quiet:
        show_samples(samples, files)
