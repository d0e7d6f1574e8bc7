"""What changes a fine-tuned student: schedule, losses and samples, each against the default, as a Markdown table.

usage: python -m benchmarks.finetuning [--zoo FOLDER] [--models NAME...] [--bits w3a3] [--rows NAME...] [--seed N]
                                       [--cache FOLDER]

On networks that no table reports (``benchmarks.build_zoo``), judged by training images of the zoo, so that the choice
of a default sees none of the images that are reported. The first 1,500 of these are the samples of one row, and the
others measure. Each student starts from the same reconstruction, on samples of ``anchored``, and is trained for 1,000
steps of 64 unless its row says otherwise. With --cache samples and results are kept in FOLDER, and a later call goes on
from there.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from benchmarks.lowbit import training_set
from benchmarks.scoring import keep, kept
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Recipe, Samples
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.calibrate import DEFAULT_METHOD
from dfq_deploy.pipeline.fit import CalibrationPlan
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.pipeline.train import Start, started
from dfq_deploy.plugins.registry import calibrator_of
from dfq_deploy.qat.distillation import Distillation
from dfq_deploy.qat.distributed import Processes
from dfq_deploy.qat.setup import make_trainer
from dfq_deploy.qat.trainer import Trainer
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.samples.augmentation import Augmentation
from dfq_deploy.samples.batches import as_twin_input, split_held_out
from dfq_deploy.samples.sizes import default_count
from dfq_deploy.targets.catalog import find_target

MODELS = ["resnet8_cifar100"]
SYNTH = "anchored"
REAL = 1500
"""Number of real images that train; the others of the set measure."""

ADDED_SEED = 7
"""Of the samples that are added to those of :data:`SYNTH`."""

UNTRAINED = "not fine-tuned"


@dataclass(frozen=True)
class Change:
    """What one row changes.

    Args:
        recipe: fields of the recipe.
        added: methods whose samples are added, as many as there are.
        real: train on real images instead.
    """

    recipe: dict[str, object] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    real: bool = False


ROWS = {
    UNTRAINED: Change(),
    "default": Change(),
    "weights learned four times as fast": Change({"weight_rate": 0.02}),
    "features of the blocks matched too": Change({"distillation": Distillation(feature_weight=1)}),
    "six images of ten mixed, not three": Change({"augmentation": Augmentation(blend=0.3, cut=0.3)}),
    "procedural pictures added": Change(added=("procedural",)),
    "photographs added": Change(added=("photographs",)),
    "real images instead": Change(real=True),
    "3,000 steps": Change({"steps": 3000}),
}


@dataclass(frozen=True)
class Result:
    """One student on the real images that it was not trained on.

    Args:
        agreement: percent of the images with the class of the float network.
        snr: of its scores, in dB.
        seconds: of a processor, for the training.
    """

    model: str
    bits: str
    row: str
    seed: int
    agreement: float
    snr: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Bench:
    """What all rows of a model share.

    Args:
        start: the reconstructed student.
        used, held: samples to train on, and those held out.
        real: all real images.
    """

    model: ZooModel
    start: Start
    used: Samples
    held: Samples
    real: Samples
    seed: int

    def trainer(self, change: Change) -> Trainer:
        """The student of a row, before its training."""
        train = self.used
        if change.real:
            train = Samples(self.real.images[:REAL])
        elif change.added:
            made = [_drawn(self.model, name, len(train), ADDED_SEED).images for name in change.added]
            train = Samples(np.concatenate([train.images, *made]))
        recipe = replace(Recipe.suited_to(self.model.shape, "cpu"), **change.recipe)  # type: ignore[arg-type]
        return make_trainer(
            self.start.quantized, self.start.teacher, train, self.held, recipe, None, Processes(), self.seed, "cpu"
        )

    @torch.no_grad()
    def measured(self, trainer: Trainer) -> tuple[float, float]:
        """Agreement in percent and signal to noise in dB, on real images."""
        images = torch.from_numpy(as_twin_input(self.start.quantized.prepared.model, Samples(self.real.images[REAL:])))
        name = trainer.loss_function.scores
        assert name is not None
        parts = torch.split(images, 256)
        student: Tensor = torch.cat([trainer.student.run(part)[name] for part in parts])
        teacher: Tensor = torch.cat(
            [self.start.teacher.run({self.start.teacher.input_names[0]: part})[name] for part in parts]
        )
        noise = float((student - teacher).square().sum() / teacher.square().sum())
        return trainer.loss_function.agreement(student, teacher), -10 * math.log10(noise)


def bench(model: ZooModel, bits: Bits, seed: int, cache: Path) -> Bench:
    """Synthesize and reconstruct."""
    path = cache / f"{model.name}-{SYNTH}-{seed}.npz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _drawn(model, SYNTH, default_count(model.shape, training=True), seed).save(path)
    used, held = split_held_out(Samples.load(path))
    plan = CalibrationPlan(
        find_target("cpu"), bits, calibrator_of(DEFAULT_METHOD), preprocess=model.preprocess, seed=seed
    )
    start = started(load(model.bn), used, plan, bits)
    return Bench(model, start, used, held, Samples(model.images(training_set(model)).images), seed)


def _drawn(model: ZooModel, synth: str, count: int, seed: int) -> Samples:
    return synthesize(model.bn, synth=synth, count=count, preprocess=model.preprocess, seed=seed, device="cpu")


def table(results: Sequence[Result]) -> str:
    """Markdown: one row for each change."""
    lines = ["| network, bits | change | agreement, % | dB | CPU s |", "|---|---|---:|---:|---:|"]
    for result in results:
        figures = f"{result.agreement:.1f} | {result.snr:.1f} | {result.seconds:.0f}"
        lines.append(f"| {result.model}, {result.bits} | {result.row} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the rows that are not yet measured, then print the whole table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--bits", default="w3a3")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    with TemporaryDirectory() as temporary:
        cache = args.cache or Path(temporary)
        results = kept(cache / "results.jsonl", Result)
        for model in models(args.zoo, args.models):
            known = {(r.model, r.bits, r.row, r.seed) for r in results}
            left = [row for row in args.rows if (model.name, args.bits, row, args.seed) not in known]
            shared = bench(model, Bits.parse(args.bits, None), args.seed, cache) if left else None
            for row in left:
                assert shared is not None
                trainer, started = shared.trainer(ROWS[row]), time.process_time()
                if row != UNTRAINED:
                    trainer.run()
                seconds = time.process_time() - started
                result = Result(model.name, args.bits, row, args.seed, *shared.measured(trainer), seconds)
                print(result, file=sys.stderr, flush=True)
                keep(cache / "results.jsonl", result)
                results.append(result)
    print(table([r for r in results if r.model in args.models and r.bits == args.bits]))


if __name__ == "__main__":
    main()
