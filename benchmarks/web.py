"""Float against INT8 in the browser: the page of examples/web in headless Chromium, as Markdown.

usage: python -m benchmarks.web [--zoo FOLDER] [--models NAME...] [--repeats N]

Chromium, and `npm install` in examples/web, are needed. Each model is calibrated for `web` by 16 pictures by rule: the
times depend on the kernels, not on the scales. WebAssembly on one thread; medians of runs that alternate between the
two models.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import calibrate
from examples.web.headless import figures

MODELS = ["resnet20_kd", "mobilenet_v1", "efficientnet_lite0", "vit_cifar10"]


def row(model: ZooModel, repeats: int) -> str:
    """One line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "out"
        calibrate(
            model.folded, synth="procedural", count=16, target="web", refine=(), floor="none",
            preprocess=model.preprocess, output=folder,
        )  # fmt: skip
        files = {"float": model.folded, "int8": folder / "model.qdq.onnx", "samples": folder / "samples.npz"}
        found = figures(files, repeats=repeats, timeout=600)
    cells = (*(f"{ms:.1f}" for ms in found["ms"]), f"{found['ratio']:.2f}", f"{found['snr']:.1f}")
    return f"| {model.name} | {' | '.join(cells)} |"


def main() -> None:
    """Run the page for each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args()
    print("| model | float, ms | INT8, ms | float / INT8 | signal to noise, dB |")
    print("|---|---:|---:|---:|---:|")
    for model in models(args.zoo, args.models):
        print(row(model, args.repeats), flush=True)


if __name__ == "__main__":
    main()
