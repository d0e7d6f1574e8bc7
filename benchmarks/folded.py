"""The default command on files with folded BatchNormalization: top-1, agreement, CPU seconds and memory, as a table.

usage: python -m benchmarks.folded [--zoo FOLDER] [--models NAME...] [--bits WA...] [--seeds N...] [--synth NAME...]
                                   [--refine NAME...] [--results FILE]

Each file is made by ``dfq-deploy calibrate MODEL.onnx --bits WA --mean ... --std ...`` in a process of its own, from
the folded file alone: no teacher, no image. Remedies are off (``--floor none``), since they may widen layers.
``auto`` is what the command takes by itself; ``--synth`` measures other methods beside it, ``real`` 256 real images
(CIFAR training images; for ImageNet, the other half of the test images), and ``--refine`` other refinements beside the
``default``. CPU seconds and peak memory are those of the
whole process, synthesis, calibration, verdict and report. Every test image of the zoo is measured on, and is used for
nothing else. With --results each row is kept in FILE at once, and a later call goes on from there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np

from benchmarks.pictures import classes
from benchmarks.scoring import REAL as REAL_IMAGES
from benchmarks.scoring import keep, kept
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples

MODELS = ["resnet20", "resnet20_kd", "wrn16_1_kd"]
REAL = "real"
DEFAULT = "default"


@dataclass(frozen=True)
class Result:
    """One file.

    Args:
        synth: the method that was asked for, or ``real``.
        method: the one that made the samples.
        verdict: of the report.
        seconds: of all CPU cores together.
        memory: bytes.
        float_top1, top1, agreement: percent.
        refine: the refinement that was asked for.
    """

    model: str
    dataset: str
    images: int
    bits: str
    synth: str
    method: str
    seed: int
    verdict: str
    seconds: float
    memory: int
    float_top1: float
    top1: float
    agreement: float
    refine: str = DEFAULT


def used(command: list[str]) -> tuple[float, int]:
    """CPU seconds and peak memory, in bytes, of a command.

    Raises:
        RuntimeError: it ends with a status other than OK, CHECK or BAD.
    """
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 3):
            said.seek(0)
            raise RuntimeError(f"status {process.returncode}: {said.read().decode(errors='replace')[-500:]}")
    # Linux counts in units of 1,024 bytes, macOS in bytes.
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(model: ZooModel, bits: str, synth: str, seed: int, refine: str = DEFAULT) -> Result:
    """Make one file by the command and measure it on all test images."""
    (dataset,) = model.evaluation
    costs, folder = [], tempfile.TemporaryDirectory()
    out = Path(folder.name) / "out"
    command = [sys.executable, "-m", "dfq_deploy", "calibrate", str(model.folded), "--bits", bits, "--floor", "none"]
    for option, values in (("--mean", model.preprocess.mean), ("--std", model.preprocess.std)):
        command += [option, ",".join(map(str, values))]
    command += ["--seed", str(seed), "--output", str(out)]
    command += [] if refine == DEFAULT else ["--refine", refine]

    def write(real: Samples | None) -> None:
        given = ["--synth", synth]
        if real is not None:
            real.save(Path(folder.name) / "real.npz")
            given = ["--data", str(Path(folder.name) / "real.npz")]
        costs.append(used([*command, *given]))

    right = expected = same = total = 0
    with folder:
        if synth != REAL:  # before this process holds images: Linux counts them in the memory of its children
            write(None)
        for real, images in model.folds(dataset, REAL_IMAGES, seed):
            if synth == REAL:
                write(real)
            found, reference = classes(out / "model.qdq.onnx", images.images), classes(model.folded, images.images)
            right += int(np.sum(found == images.labels))
            expected += int(np.sum(reference == images.labels))
            same += int(np.sum(found == reference))
            total += len(images)
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return Result(
        model.name, dataset, total, bits, synth, str(report["samples"]["method"]), seed,
        str(report["verdict"]["status"]), mean(seconds for seconds, _ in costs), max(memory for _, memory in costs),
        100 * expected / total, 100 * right / total, 100 * same / total, refine,
    )  # fmt: skip


def table(results: list[Result]) -> str:
    """Markdown: drops of all seeds and their mean, mean agreement, CPU seconds and memory."""
    lines = ["| model | bits | samples | refinement | drop in points, by seed | mean | agreement, % | CPU s | MB |"]
    lines += ["|---|---|---|---|---|---:|---:|---:|---:|"]
    for key in dict.fromkeys((r.model, r.bits, r.synth, r.refine) for r in results):
        rows = sorted((r for r in results if (r.model, r.bits, r.synth, r.refine) == key), key=lambda r: r.seed)
        drops = [r.float_top1 - r.top1 for r in rows]
        each = ", ".join(f"{drop:.2f}" for drop in drops)
        chosen = "" if rows[0].method == key[2] or key[2] == REAL else f": {rows[0].method}"
        figures = f"{mean(drops):.2f} | {mean(r.agreement for r in rows):.1f} | {mean(r.seconds for r in rows):.0f}"
        memory = f"{max(r.memory for r in rows) / 1e6:.0f}"
        lines.append(f"| {key[0]} | {key[1].upper()} | {key[2]}{chosen} | {key[3]} | {each} | {figures} | {memory} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is not yet measured, then print the whole table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--bits", nargs="*", default=["w4a4"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--synth", nargs="*", default=["auto"])
    parser.add_argument("--refine", nargs="*", default=[DEFAULT])
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    results = kept(args.results, Result)
    done = {(r.model, r.bits, r.synth, r.seed, r.refine) for r in results}
    for seed in args.seeds:
        for model in models(args.zoo, args.models):
            for bits, synth, refine in product(args.bits, args.synth, args.refine):
                if (model.name, bits, synth, seed, refine) not in done:
                    results.append(measured(model, bits, synth, seed, refine))
                    print(results[-1], file=sys.stderr, flush=True)
                    keep(args.results, results[-1])
    wanted = [r for r in results if r.model in args.models and r.bits in args.bits and r.synth in args.synth]
    print(table([r for r in wanted if r.seed in args.seeds and r.refine in args.refine]))


if __name__ == "__main__":
    main()
