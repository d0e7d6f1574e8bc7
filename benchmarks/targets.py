"""Every zoo model for every target: file written, rules kept, top-1 in ONNX Runtime and in OpenVINO, as Markdown.

usage: python -m benchmarks.targets [--zoo FOLDER] [--models NAME...] [--targets NAME...] [--samples N] [--limit N]
                                    [--cache FOLDER] [--results FILE] [--refine NAME...] [--real]

One set of samples is synthesized for each model (deepinversion, seed 0), kept in the cache, and calibrates it for all
targets; with --real 256 real images do (CIFAR-10 training images, or the half of the ImageNet test images that is not
measured on). The files of OpenVINO are also run there, where it is installed. With --results each row is kept in
FILE at once, and a later call goes on from there.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.scoring import REAL, keep, kept, score
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples, calibrate
from dfq_deploy.checking import check
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.targets.catalog import TARGETS

MODELS = ["resnet20", "resnet56", "resnet20_kd", "wrn16_1_kd", "mobilenet_v1"]
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""OpenVINO computes what is left in float in bfloat16 where the processor has it, which hides what is compared here."""


@dataclass(frozen=True)
class Row:
    """One file on one data set.

    Args:
        calibration: the set that it was calibrated with.
        violations: of the target's rules, without advice.
        float_top1, top1, agreement: percent, in ONNX Runtime; the agreement is that with the float model.
        openvino_top1, openvino_agreement: the same file in OpenVINO, its agreement with ONNX Runtime; None where it
            was not run there.
    """

    model: str
    dataset: str
    target: str
    calibration: str
    images: int
    violations: int
    float_top1: float
    top1: float
    agreement: float
    openvino_top1: float | None
    openvino_agreement: float | None


def samples_of(model: ZooModel, count: int | None, cache: Path) -> Samples:
    """The model's synthetic samples, from the cache where they are there."""
    path = cache / f"{model.name}-{count or 'default'}.npz"
    if not path.exists():
        made = synthesize(model.bn, synth="deepinversion", count=count, preprocess=model.preprocess)
        with atomic_file(path) as partial:
            made.save(partial)
    return read_samples(path, model.preprocess, model.shape)


def measured(
    model: ZooModel, target: str, args: argparse.Namespace, done: set[tuple[str, str, str, str]]
) -> Iterator[Row]:
    """The model's file for a target, on each data set."""
    calibration = "256 real" if args.real else "synthetic"
    calibration += "".join(f" + {name}" for name in args.refine or ())

    def write(real: Samples, path: Path) -> None:
        calibrate(
            model.bn,
            data=real if args.real else samples_of(model, args.samples, args.cache),
            target=target,
            preprocess=model.preprocess,
            refine=args.refine,
            floor="none",
            output=path.parent,
        )

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.qdq.onnx"
        for dataset in model.evaluation:
            if (model.name, dataset, target, calibration) in done:
                continue
            found = score(model, dataset, write, path, real=args.real, limit=args.limit)
            top1, agreement = None, None
            if target == "openvino" and not args.real:
                top1, agreement = in_openvino(model, dataset, path, args)
            yield Row(
                model.name,
                dataset,
                target,
                calibration,
                found.images,
                len(check(path, target).errors),
                found.float_top1,
                found.top1,
                found.agreement,
                top1,
                agreement,
            )


def in_openvino(
    model: ZooModel, dataset: str, path: Path, args: argparse.Namespace
) -> tuple[float, float] | tuple[None, None]:
    """Top-1 of a file in OpenVINO, and how often it says what ONNX Runtime says; percent."""
    try:
        import openvino
    except ImportError:
        return None, None
    from dfq_deploy.runtime.runner import Runner

    right, same, total = 0, 0, 0
    compiled = openvino.Core().compile_model(str(path), "CPU", EXACT)
    runner = Runner(path)
    for _, images in model.folds(dataset, REAL):  # as score() takes them
        step = 1 if args.limit is None else max(1, len(images) // args.limit)
        measured_on = images.part(slice(None, None if args.limit is None else step * args.limit, step))
        inputs = measured_on.images
        theirs: NDArray[np.int64] = np.concatenate([
            np.asarray(compiled(inputs[start : start + 64])[0]).argmax(1) for start in range(0, len(inputs), 64)
        ])  # fmt: skip
        (scores,) = runner.run(measured_on)
        assert isinstance(scores, np.ndarray)
        right += int((theirs == measured_on.labels).sum())
        same += int((theirs == scores.argmax(1)).sum())
        total += len(measured_on)
    return 100 * right / total, 100 * same / total


def table(rows: list[Row]) -> str:
    """Markdown, a block for each model and data set."""
    lines = []
    for model, dataset in dict.fromkeys((row.model, row.dataset) for row in rows):
        block = [row for row in rows if (row.model, row.dataset) == (model, dataset)]
        lines += [f"\n**{model}** on {dataset} ({block[0].images} images, float {block[0].float_top1:.2f})\n"]
        lines += [
            "| target | calibrated with | violations | top-1 | drop | agreement | OpenVINO top-1 | its agreement |"
        ]
        lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
        for row in block:
            theirs = ["" if value is None else f"{value:.2f}" for value in (row.openvino_top1, row.openvino_agreement)]
            cells = [
                *(row.target, row.calibration, str(row.violations), f"{row.top1:.2f}"),
                *(f"{row.float_top1 - row.top1:.2f}", f"{row.agreement:.2f}", *theirs),
            ]
            lines += [f"| {' | '.join(cells)} |"]
    return "\n".join(lines)


def summary(rows: list[Row]) -> str:
    """Markdown: points of top-1 below float by target and model, the data sets behind one another."""
    names = list(dict.fromkeys(row.model for row in rows))
    lines = [f"| target | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for target in dict.fromkeys(row.target for row in rows):
        drops = [[f"{r.float_top1 - r.top1:.2f}" for r in rows if (r.model, r.target) == (m, target)] for m in names]
        lines += [f"| {target} | {' | '.join(' / '.join(cell) for cell in drops)} |"]
    there = [row for row in rows if row.target == "openvino" and row.openvino_top1 is not None]
    compiled = [[f"{r.float_top1 - (r.openvino_top1 or 0):.2f}" for r in there if r.model == name] for name in names]
    if any(compiled):
        lines += [f"| openvino, run in OpenVINO | {' | '.join(' / '.join(cell) for cell in compiled)} |"]
    return "\n".join(lines)


def main() -> None:
    """Measure what is not yet measured, then print the whole table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--samples", type=int, help="how many are synthesized; by default as many as suit the input")
    parser.add_argument("--limit", type=int, help="measure on at most so many images of each set, spread evenly")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "dfq-deploy-samples")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--refine", nargs="*", help="refinements instead of the default ones")
    parser.add_argument("--real", action="store_true", help="calibrate with real images, as the ceiling")
    args = parser.parse_args()
    rows = kept(args.results, Row)
    done = {(row.model, row.dataset, row.target, row.calibration) for row in rows}
    for model in models(args.zoo, args.models):
        for target in args.targets:
            for row in measured(model, target, args, done):
                print(row, file=sys.stderr, flush=True)
                rows.append(row)
                keep(args.results, row)
    shown = [row for row in rows if row.model in args.models and row.target in args.targets]
    print(summary(shown), table(shown), sep="\n")


if __name__ == "__main__":
    main()
