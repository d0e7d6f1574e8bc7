"""Top-1 of the INT8 files on real images, by what they were calibrated with, as a Markdown table.

usage: python -m benchmarks.accuracy [--zoo FOLDER] [--models NAME...] [--seeds N...] [--rows TEXT...] [--results FILE]

Every row but the "real" ones is data-free. ``ours`` runs ``dfq_deploy.calibrate`` with its defaults (mse ranges and
bias correction) but remedies, or with min-max ranges and nothing else, on each set; ``quantize_static`` is ONNX
Runtime's own quantizer, min-max, on the folded file. The images that are measured on are used for nothing else: real
calibration images are CIFAR-10 training images, or, for ImageNet, the other half of the test images; they are drawn
once for each seed, 256 that lie together in the file. With --rows only the rows are measured whose calibration set and
tool, as "32 uniform, ours", contain one of the texts. With --results each measured row is kept in FILE at once, and a
later call goes on from there.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import quantize_with_onnxruntime
from benchmarks.scoring import REAL, Writer, keep, kept, score
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples, calibrate
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.plugins.registry import find_plugin

MODELS = ["resnet20", "resnet20_kd", "wrn16_1_kd", "mobilenet_v1"]


@dataclass(frozen=True)
class Result:
    """One cell row of the table.

    Args:
        float_top1, int8_top1, agreement: percent.
    """

    model: str
    dataset: str
    images: int
    calibration: str
    tool: str
    float_top1: float
    int8_top1: float
    agreement: float


@dataclass(frozen=True)
class Case:
    """One way to calibrate.

    Args:
        calibration: the set, for the table.
        tool: who makes the ranges, for the table.
        write: makes the INT8 file.
        draw: which of the real images it is handed.
    """

    calibration: str
    tool: str
    write: Writer
    draw: int = 0


def ours(model: ZooModel, file: Path, method: str | None, **given: Any) -> Writer:
    """A writer that runs our pipeline; without ``synth`` or ``data`` it takes the real images."""

    def write(real: Samples, path: Path) -> None:
        chosen = given if given else {"data": real}
        refine = None if method is None else ()
        calibrate(
            file,
            preprocess=model.preprocess,
            method=method,
            refine=refine,
            floor="none",
            output=path.parent,
            **chosen,
        )

    return write


def theirs(model: ZooModel, images: np.ndarray | None) -> Writer:
    """A writer that runs ONNX Runtime's quantizer on given images, or on the real ones."""

    def write(real: Samples, path: Path) -> None:
        quantize_with_onnxruntime(model.folded, real.images if images is None else images, path)

    return write


def cases(model: ZooModel, seeds: list[int]) -> Iterator[Case]:
    """Every row of a model, quick ones first."""
    noise = find_plugin("synthesizers", "noise")
    uniform = synthesize(model.bn, synth=noise("uniform"), count=32)
    gaussian = synthesize(model.bn, synth=noise("gaussian"), count=REAL)
    procedural = synthesize(model.bn, synth="procedural", count=REAL, preprocess=model.preprocess)
    for tool, method in (("ours", None), ("ours, min-max only", "minmax")):
        for draw in seeds:
            yield Case(f"{REAL} real images, draw {draw}", tool, ours(model, model.bn, method), draw)
        for name, samples in (
            ("32 uniform", uniform),
            (f"{REAL} Gaussian", gaussian),
            (f"{REAL} procedural", procedural),
        ):
            yield Case(name, tool, ours(model, model.bn, method, data=samples))
    yield Case("folded file alone (falls back)", "ours", ours(model, model.folded, None, synth="deepinversion"))
    for name, images in (("32 uniform", uniform.images), (f"{REAL} Gaussian", gaussian.images)):
        yield Case(name, "quantize_static", theirs(model, images))
    for draw in seeds:
        yield Case(f"{REAL} real images, draw {draw}", "quantize_static", theirs(model, None), draw)
    for seed in seeds:
        yield Case(f"deepinversion, seed {seed}", "ours", ours(model, model.bn, None, synth="deepinversion", seed=seed))
    yield Case(
        "deepinversion, folded file + --teacher",
        "ours",
        ours(model, model.folded, None, synth="deepinversion", teachers=[model.bn]),
    )


def measured(model: ZooModel, case: Case, done: set[tuple[str, str, str, str]]) -> Iterator[Result]:
    """The case on every data set of the model; an INT8 file that does not depend on the set is made once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.qdq.onnx"
        for dataset in model.evaluation:
            if (model.name, dataset, case.calibration, case.tool) in done:
                continue
            found = score(model, dataset, case.write, path, real="real" in case.calibration, draw=case.draw)
            yield Result(
                model.name,
                dataset,
                found.images,
                case.calibration,
                case.tool,
                found.float_top1,
                found.top1,
                found.agreement,
            )


def table(results: list[Result]) -> str:
    """Markdown, a block for each model and data set, best first."""
    lines = []
    for model, dataset in dict.fromkeys((result.model, result.dataset) for result in results):
        rows = [r for r in results if (r.model, r.dataset) == (model, dataset)]
        lines += [f"\n**{model}** on {dataset} ({rows[0].images} images, float {rows[0].float_top1:.2f})\n"]
        lines += ["| calibration set | calibrator | INT8 top-1 | drop | agreement |", "|---|---|---|---|---|"]
        for row in sorted(rows, key=lambda r: -r.int8_top1):
            drop = row.float_top1 - row.int8_top1
            lines += [f"| {row.calibration} | {row.tool} | {row.int8_top1:.2f} | {drop:.2f} | {row.agreement:.2f} |"]
    return "\n".join(lines)


def summary(results: list[Result]) -> str:
    """Markdown, a row for each way to calibrate, a column for each data set; seeds and draws as smallest to largest."""
    columns = list(dict.fromkeys((r.model, r.dataset) for r in results))
    floats = {(r.model, r.dataset): r.float_top1 for r in results}
    found: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    for r in results:
        name = re.sub(r", (seed|draw) \d+$", "", r.calibration)
        found.setdefault((name, r.tool), {}).setdefault((r.model, r.dataset), []).append(r.int8_top1)
    lines = ["| calibration set | calibrator | " + " | ".join(f"{model}, {data}" for model, data in columns) + " |"]
    lines += ["|---|---|" + "---|" * len(columns)]
    lines += ["| float | | " + " | ".join(f"{floats[column]:.2f}" for column in columns) + " |"]
    for (name, tool), cells in found.items():
        lines += [f"| {name} | {tool} | " + " | ".join(_span(cells.get(column, [])) for column in columns) + " |"]
    return "\n".join(lines)


def _span(values: list[float]) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def main() -> None:
    """Measure what is not yet measured, then print the whole table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument(
        "--seeds", nargs="*", type=int, default=[0, 1, 2], help="of synthesis, and draws of real images"
    )
    parser.add_argument("--rows", nargs="*", default=[""], help="texts of the rows to measure")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    results = kept(args.results, Result)
    done = {(r.model, r.dataset, r.calibration, r.tool) for r in results}
    for model in models(args.zoo, args.models):
        for case in cases(model, args.seeds):
            if not any(text in f"{case.calibration}, {case.tool}" for text in args.rows):
                continue
            for result in measured(model, case, done):
                print(result, file=sys.stderr, flush=True)
                results.append(result)
                keep(args.results, result)
    shown = [result for result in results if result.model in args.models]
    print(summary(shown) + "\n" + table(shown))


if __name__ == "__main__":
    main()
