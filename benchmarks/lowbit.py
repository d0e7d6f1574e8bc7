"""Top-1 below eight bits, as a Markdown table: fine-tuned without data, fine-tuned on real data, and not fine-tuned.

usage: python -m benchmarks.lowbit [--zoo FOLDER] [--models NAME...] [--bits w5a5...] [--seeds N...] [--rows NAME...]
                                   [--synth NAME] [--samples N] [--steps N] [--cache FOLDER] [--device NAME]

Every layer has the bits of its column, the first and the last too; the input has 8, the outputs are float. The
schedule is fixed, the last student is measured, and the images that are measured on decide nothing.

=============  ====================================================================================
row            what it is
=============  ====================================================================================
data-free      ``dfq_deploy.finetune`` on samples made from the model alone
real           the ceiling: the same schedule on 3,044 training images of CIFAR-10, or 3,000 of CIFAR-100 (no others)
ptq            the floor: ranges by mse on the same samples as data-free, no refinement
reconstruct    ``dfq_deploy.calibrate`` as it comes below 8 bits, with learned rounding, on the same samples
=============  ====================================================================================

Data-free files are made with every seed, those of the other rows with the first one. By default the samples are made by
``anchored``, which the command line takes for these models by itself (``--synth auto``).

With --cache each result is kept in FOLDER/results.jsonl at once, samples and unfinished trainings beside it, and a
later call goes on from there; a cache is for one --samples and one --steps. A drop is the mean over the model's data
sets.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from benchmarks.published import PUBLISHED
from benchmarks.scoring import keep, kept, score
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Recipe, Samples, calibrate, finetune
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.samples.sizes import default_count
from dfq_deploy.synthesis.session import pick_device

MODELS = ["resnet20", "resnet20_kd", "wrn16_1_kd", "resnet20_cifar100", "vit_cifar10"]
BITS = ["w5a5", "w4a4", "w3a3"]
ROWS = ["ptq", "reconstruct", "data-free", "real"]
CALIBRATED = {"ptq": (), "reconstruct": ("reconstruct",)}
"""Rows without fine-tuning, and their refinements."""


@dataclass(frozen=True)
class Result:
    """One quantized file on one data set.

    Args:
        row: of the table in the module's docstring.
        synth: the method that made the samples; empty for real images.
        steps: of fine-tuning; 0 where there is none.
        float_top1, top1, agreement: percent.
        size: bytes of the quantized file, as a part of the float one's.
        seconds: of a processor, for fine-tuning or calibration without synthesis; 0 where that is not known.
    """

    model: str
    bits: str
    row: str
    synth: str
    seed: int
    steps: int
    dataset: str
    images: int
    float_top1: float
    top1: float
    agreement: float
    size: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Args:
        cache: the folder that results, samples and unfinished trainings are kept in.
        samples, steps: None leaves them to the size of the model's input.
    """

    bits: list[str]
    seeds: list[int]
    rows: list[str]
    synth: str
    samples: int | None
    steps: int | None
    cache: Path
    device: str

    def count(self, model: ZooModel) -> int:
        """Number of synthesized samples."""
        return self.samples or default_count(model.shape, training=True)

    def recipe(self, model: ZooModel) -> Recipe:
        """The schedule of one model."""
        suited = Recipe.suited_to(model.shape, pick_device(self.device))
        return suited if self.steps is None else replace(suited, steps=self.steps)

    def cases(self, model: ZooModel) -> Iterator[tuple[str, str, int]]:
        """Bits, row and seed of every file: all seeds of data-free, the first one of the others."""
        for row in self.rows:
            if row == "real" and training_set(model) not in model.datasets:
                continue
            for bits in self.bits:
                for seed in self.seeds if row == "data-free" else self.seeds[:1]:
                    yield bits, row, seed


def training_set(model: ZooModel) -> str:
    """Name of the training images of the data set that a model is measured on; the zoo may have none."""
    return f"{model.evaluation[0]}_train"


def samples_of(model: ZooModel, plan: Plan, seed: int) -> Samples:
    """Synthesized samples, made once for all bit widths."""
    path = plan.cache / f"{model.name}-{plan.synth}-{plan.count(model)}-{seed}.npz"
    if path.exists():
        return Samples.load(path)
    made = synthesize(
        model.bn, synth=plan.synth, count=plan.count(model), preprocess=model.preprocess, seed=seed, device=plan.device
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path)
    return made


def made(model: ZooModel, plan: Plan, bits: str, row: str, seed: int, folder: Path) -> float:
    """Write the file of one case into ``folder``; CPU seconds that it took, 0 where it went on from a checkpoint."""
    resumed = (folder / "checkpoint.json").exists()
    samples = Samples(model.images(training_set(model)).images) if row == "real" else samples_of(model, plan, seed)
    started = time.process_time()
    if row in CALIBRATED:
        refine = CALIBRATED[row]
        calibrate(
            model.bn, data=samples, bits=bits, refine=refine, preprocess=model.preprocess, floor="none", output=folder
        )
    else:
        finetune(
            model.bn,
            data=samples,
            bits=bits,
            recipe=plan.recipe(model),
            preprocess=model.preprocess,
            seed=seed,
            device=plan.device,
            output=folder,
            resume=resumed,
        )
    return 0.0 if resumed else time.process_time() - started


def measured(model: ZooModel, plan: Plan, done: list[Result]) -> Iterator[Result]:
    """The cases that are not yet done, on every data set of the model."""
    known = {(r.model, r.bits, r.row, r.synth, r.seed, r.steps, r.dataset) for r in done}
    for bits, row, seed in plan.cases(model):
        synth, steps = "" if row == "real" else plan.synth, 0 if row in CALIBRATED else plan.recipe(model).steps
        left = [name for name in model.evaluation if (model.name, bits, row, synth, seed, steps, name) not in known]
        if not left:
            continue
        folder = plan.cache / f"{model.name}-{bits}-{row}-{plan.synth}-{seed}-{steps}"
        seconds = made(model, plan, bits, row, seed, folder)
        path = folder / "model.qdq.onnx"
        size = path.stat().st_size / model.bn.stat().st_size
        for dataset in left:
            found = score(model, dataset, _nothing, path, real=False)
            yield Result(
                model.name, bits, row, synth, seed, steps, dataset, found.images,
                found.float_top1, found.top1, found.agreement, size, seconds,
            )  # fmt: skip


def _nothing(_: Samples, path: Path) -> None:
    raise FileNotFoundError(path)


def table(results: list[Result], bits: list[str]) -> str:
    """Markdown: drops of top-1 in points, by model and row; several seeds as mean, smallest and largest."""
    lines = ["| model, float | row | CPU minutes | " + " | ".join(bits) + " |", "|---|---|---|" + "---|" * len(bits)]
    names = list(dict.fromkeys(r.model for r in results))
    for model, row in ((model, row) for model in names for row in ROWS):
        found = [r for r in results if (r.model, r.row) == (model, row)]
        if found:
            cells = [_cell([r for r in found if r.bits == width]) for width in bits]
            named = f"{model}, {mean({r.dataset: r.float_top1 for r in found}.values()):.2f}"
            lines.append(f"| {named} | {row} | {_minutes(found)} | " + " | ".join(cells) + " |")
    for entry in PUBLISHED:
        drops = [entry.drop(width) for width in bits]
        cells = ["" if drop is None else f"{drop:.2f}" for drop in drops]
        lines.append(f"| {entry.network}, published | {entry.method} | | " + " | ".join(cells) + " |")
    note = "Drops in points, float top-1 in percent. Published figures are on other images, from other float models."
    return "\n".join([*lines, "", note])


def _minutes(results: list[Result]) -> str:
    """What one case took, from the fastest to the slowest, synthesis aside."""
    known = [r.seconds for r in results if r.seconds]
    if not known:
        return ""
    least, most = (f"{end(known) / 60:.1f}" for end in (min, max))
    return least if least == most else f"{least} to {most}"


def _cell(results: list[Result]) -> str:
    seeds = sorted({r.seed for r in results})
    drops = [mean(r.float_top1 - r.top1 for r in results if r.seed == seed) for seed in seeds]
    if not drops:
        return ""
    least, most = f"{min(drops):.2f}", f"{max(drops):.2f}"
    return least if len(drops) == 1 else f"{mean(drops):.2f} ({least} to {most}, {len(drops)} seeds)"


def main() -> None:
    """Measure what is not yet measured, then print the whole table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--bits", nargs="*", default=BITS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", nargs="*", default=ROWS, choices=ROWS)
    parser.add_argument("--synth", default="anchored")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    with TemporaryDirectory() as temporary:
        cache = args.cache or Path(temporary)
        plan = Plan(args.bits, args.seeds, args.rows, args.synth, args.samples, args.steps, cache, args.device)
        results = kept(cache / "results.jsonl", Result)
        for model in models(args.zoo, args.models):
            for result in measured(model, plan, results):
                print(result, file=sys.stderr, flush=True)
                results.append(result)
                keep(cache / "results.jsonl", result)
    print(table([r for r in results if r.model in args.models and r.bits in args.bits], args.bits))


if __name__ == "__main__":
    main()
