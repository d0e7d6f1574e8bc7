"""How much headroom synthesized ranges need, as a Markdown table: signal to noise of the logits, float against INT8.

usage: python -m benchmarks.headroom [--zoo FOLDER] [--models NAME...] [--headroom F...]

The choice of ``dfq_deploy.quantization.encode.HEADROOM`` stands on this table. The images that it measures on are
CIFAR-10 training images; no image of an evaluation set is touched.
"""

import argparse
import tempfile
from pathlib import Path
from unittest import mock

from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples, calibrate, synthesize
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.quantization import encode

CALIBRATION_IMAGES = 256


def row(model: ZooModel, name: str, samples: Samples, measured_on: Samples, factors: list[float]) -> str:
    """One line of the table."""
    cells = []
    for factor in factors:
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(encode, "HEADROOM", factor):
            made = calibrate(model.bn, data=samples, preprocess=model.preprocess, output=Path(folder) / "out")
            assert made.model_path is not None
            cells.append(f"{compare(model.folded, made.model_path, measured_on).outputs[0].snr:.1f}")
    return f"| {model.name} | {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=["resnet20", "resnet20_kd", "wrn16_1_kd", "resnet56"])
    parser.add_argument("--headroom", nargs="*", type=float, default=[1.0, 1.1, 1.2, 1.3, 1.5])
    args = parser.parse_args()
    print("| model | samples | " + " | ".join(f"x {factor:g}" for factor in args.headroom) + " |")
    print("|---|---|" + "---|" * len(args.headroom))
    for model in models(args.zoo, args.models):
        images = model.images("cifar10_train").images
        calibration, measured_on = Samples(images[:CALIBRATION_IMAGES], synthetic=True), Samples(images[1000:])
        synthesized = synthesize(model.bn, preprocess=model.preprocess)
        for name, samples in (("deepinversion", synthesized), ("real images", calibration)):
            print(row(model, name, samples, measured_on, args.headroom), flush=True)


if __name__ == "__main__":
    main()
