"""How many samples calibration needs, and how long it takes: ``calibrate`` with its defaults, for several counts.

usage: python -m benchmarks.sample_counts [--zoo FOLDER] [--models NAME...] [--counts N...] [--seeds N...] [--limit N]

The folded files are calibrated on procedural pictures and measured on test images (at most --limit of each data set).
Seconds are CPU seconds of the whole calibration, its verdict included. Remedies are off. Prints Markdown.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.scoring import score
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples, calibrate


def row(model: ZooModel, count: int, seeds: list[int], limit: int | None) -> str:
    """Drop and agreement over the seeds, and CPU seconds, as a line of the table."""
    seconds, drops, agreements = [], [], []
    for seed in seeds:

        def write(real: Samples, path: Path, seed: int = seed) -> None:
            start = time.process_time()
            calibrate(
                model.folded,
                synth="procedural",
                count=count,
                seed=seed,
                floor="none",
                preprocess=model.preprocess,
                output=path.parent,
            )
            seconds.append(time.process_time() - start)

        with tempfile.TemporaryDirectory() as folder:
            found = score(model, model.evaluation[0], write, Path(folder) / "model.qdq.onnx", real=False, limit=limit)
        drops.append(found.float_top1 - found.top1)
        agreements.append(found.agreement)
    return (
        f"| {model.name} | {count} | {np.mean(drops):.2f} ({min(drops):.2f} to {max(drops):.2f}) | "
        f"{np.mean(agreements):.1f} | {np.mean(seconds):.0f} |"
    )


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=["resnet20_kd", "mobilenet_v1"])
    parser.add_argument("--counts", nargs="*", type=int, default=[8, 32, 64, 256])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    print(
        "| model | samples | drop of top-1 in points (seeds) | agreement in % | CPU seconds |\n|---|---:|---|---:|---:|"
    )
    for model in models(args.zoo, args.models):
        for count in args.counts:
            print(row(model, count, args.seeds, args.limit), flush=True)


if __name__ == "__main__":
    main()
