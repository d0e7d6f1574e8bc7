"""Agreement below 8 bits by kind of picture drawn by rule, on networks that no table reports, and the time they take.

usage: python -m benchmarks.pictures NETWORK.onnx... --images FILE.npz --preprocess NAME [--bits WA] [--sets NAME...]
       python -m benchmarks.pictures --speed

Each NETWORK is calibrated with 256 pictures of each kind, mse ranges and bias correction, and compared with itself in
float on the images of FILE (uint8 ``images``, (N, H, W, C)), of which the first 1,000 may calibrate (``real``) and the
next 1,500 measure. The constants of ``dfq_deploy/synthesis/procedural`` were chosen by this. --speed prints the CPU
seconds of 256 pictures of 224 by 224.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfq_deploy import Preprocess, Samples
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.fit import CalibrationPlan, fit
from dfq_deploy.plugins.registry import calibrator_of, exporter_of
from dfq_deploy.progress import Clock
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.samples.photographs import CALIBRATION, photographs
from dfq_deploy.samples.preprocess import as_preprocess
from dfq_deploy.synthesis.procedural.pictures import Camera, Pictures
from dfq_deploy.targets.catalog import find_target

COUNT, REAL, MEASURED = 256, 1000, 1500

Pixels = NDArray[np.float32]


def drawn(pictures: Pictures) -> Callable[[tuple[int, int, int], Pixels], Pixels]:
    """A set of pictures by rule, from the shape and real pixels."""
    return lambda shape, real: pictures.draw(COUNT, shape, np.random.default_rng(0))


SETS: Mapping[str, Callable[[tuple[int, int, int], Pixels], Pixels]] = {
    "procedural": drawn(Pictures()),
    "not blurred": drawn(Pictures(camera=Camera(0, 0))),
    "blurred 0.5 to 1.3": drawn(Pictures(camera=Camera(0.5, 1.3))),
    "scenes only": drawn(Pictures(shares={"scene": 1.0})),
    "texture 0.05": drawn(Pictures(texture=0.05)),
    "texture 0.3": drawn(Pictures(texture=0.3)),
    "photographs": lambda shape, real: photographs(COUNT, shape, Preprocess((0.0,), (1.0,)), 0, CALIBRATION),
    "real": lambda shape, real: real[:COUNT],
}


def agreement(network: Path, pixels: Pixels, measured: Samples, preprocess: Preprocess, bits: str) -> float:
    """Percent of the measured images that keep their class once ``network`` is calibrated on ``pixels`` in [0, 1]."""
    low, high = (bound[:, None, None] for bound in preprocess.bounds(pixels.shape[1]))
    samples = Samples(np.asarray(pixels * (high - low) + low, np.float32), method="pictures")
    plan = CalibrationPlan(find_target("cpu"), Bits.parse(bits), calibrator_of("mse"), ("bias",), preprocess)
    fitted = fit(load(network), samples, plan, None, (), Clock())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.qdq.onnx"
        exporter_of("qdq").export(fitted.quantized.prepared.model, fitted.quantized.encodings, path)
        scores = compare(network, path, measured).scores
    assert scores is not None
    return scores.agreement


def speed() -> None:
    """Print the CPU seconds of 256 pictures of 224 by 224."""
    started = time.process_time()
    Pictures().draw(COUNT, (3, 224, 224), np.random.default_rng(0))
    print(f"256 pictures of 224 by 224: {time.process_time() - started:.1f} CPU seconds")


def main() -> None:
    """Print a row for each set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("networks", nargs="*", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--preprocess", default="cifar10")
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS), metavar="NAME")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    if args.speed:
        speed()
        return
    preprocess = as_preprocess(args.preprocess)
    if preprocess is None or args.images is None or not args.networks:
        parser.error("networks, --images and --preprocess are needed, or --speed")
    images = np.load(args.images)["images"][: REAL + MEASURED]
    real = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    measured = Samples(preprocess.apply(images[REAL:]))
    print("| samples | " + " | ".join(network.stem for network in args.networks) + " |")
    print("|---|" + "---:|" * len(args.networks))
    for name in args.sets:
        pixels = SETS[name](real.shape[1:], real)
        found = [agreement(network, pixels, measured, preprocess, args.bits) for network in args.networks]
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in found) + " |", flush=True)


if __name__ == "__main__":
    main()
