"""What pictures without a model are worth: top-1 and agreement of files calibrated on them, and the time they take.

usage: python -m benchmarks.pictures [--zoo FOLDER] [--models NAME...] [--bits WA...] [--sets NAME...] [--seeds N...]
                                     [--refine NAME...]
       python -m benchmarks.pictures --network FILE.onnx... --images FILE.npz --preprocess NAME [...]
       python -m benchmarks.pictures --speed

Files with folded BatchNormalization are calibrated as ``dfq_deploy.calibrate`` does with mse ranges and bias correction
(all that it does at 8 bits; ``--refine reconstruct`` is its default below), on 256 pictures of each kind, 64 where they
are large. A set is one of those here, or any synthesis method that needs no BatchNormalization. The zoo's are measured
on all their test images. The constants of ``procedural`` and ``anchored`` were chosen with --network, on networks that
no table reports: 1,500 training images of FILE (uint8 ``images``, (N, H, W, C)) after the first 1,000, which may
calibrate (``real``). --speed prints the CPU seconds of 256 pictures of 224 by 224.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.zoo import DEFAULT_ZOO, models
from dfq_deploy import Preprocess, Samples, synthesize
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.fit import CalibrationPlan, fit
from dfq_deploy.plugins.registry import calibrator_of, exporter_of
from dfq_deploy.progress import Clock
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.runtime.session import session_options
from dfq_deploy.samples.photographs import CALIBRATION, photographs
from dfq_deploy.samples.preprocess import as_preprocess
from dfq_deploy.samples.sizes import default_count
from dfq_deploy.synthesis.procedural.pictures import Camera, Pictures
from dfq_deploy.targets.catalog import find_target

REAL, MEASURED, BATCH = 1000, 1500, 100
PIXELS = Preprocess((0.0,), (1.0,))

Pixels = NDArray[np.float32]
Shape = tuple[int, int, int]


def by_rule(pictures: Pictures) -> Callable[[int, Shape, int], Pixels]:
    """Draw a number of pictures of a shape with a seed."""
    return lambda count, shape, seed: pictures.draw(count, shape, np.random.default_rng(seed))


def mixed(count: int, shape: Shape, seed: int) -> Pixels:
    """Procedural pictures and photographs in equal parts."""
    half = by_rule(Pictures())(count - count // 2, shape, seed)
    return np.concatenate([half, photographs(count // 2, shape, PIXELS, seed, CALIBRATION)])


SETS: Mapping[str, Callable[[int, Shape, int], Pixels]] = {
    "procedural": by_rule(Pictures()),
    "photographs": lambda count, shape, seed: photographs(count, shape, PIXELS, seed, CALIBRATION),
    "procedural+photographs": mixed,
    "not blurred": by_rule(Pictures(camera=Camera(0, 0))),
    "blurred 0.5 to 1.3": by_rule(Pictures(camera=Camera(0.5, 1.3))),
    "scenes only": by_rule(Pictures(shares={"scene": 1.0})),
    "texture 0.05": by_rule(Pictures(texture=0.05)),
    "texture 0.3": by_rule(Pictures(texture=0.3)),
}
REPORTED = ("procedural", "photographs", "procedural+photographs", "real")


@dataclass(frozen=True, eq=False)
class Case:
    """A network, the images that measure it, and real ones that may calibrate it.

    Args:
        measured: with labels where they are known.
        real: in the model's own input space.
        refine: names of the refinements.
    """

    name: str
    network: Path
    preprocess: Preprocess
    measured: Samples
    real: Pixels
    refine: tuple[str, ...] = ("bias",)

    def calibration(self, name: str, seed: int) -> Samples:
        """The samples of a row."""
        shape = self.real.shape[1:]
        count = default_count(shape)
        if name == "real":
            return Samples(self.real[:count])
        if name not in SETS:
            return synthesize(self.network, synth=name, count=count, preprocess=self.preprocess, seed=seed)
        low, high = (bound[:, None, None] for bound in self.preprocess.bounds(shape[0]))
        return Samples(SETS[name](count, shape, seed) * (high - low) + low, method=name)

    def quantized(self, samples: Samples, bits: str, path: Path) -> None:
        """Write the quantized file."""
        calibrator, refine = calibrator_of("mse"), tuple(self.refine)
        plan = CalibrationPlan(find_target("cpu"), Bits.parse(bits), calibrator, refine, self.preprocess)
        fitted = fit(load(self.network), samples, plan, None, (), Clock()).quantized
        exporter_of("qdq").export(fitted.prepared.model, fitted.encodings, path)


def classes(path: Path, images: Pixels) -> NDArray[np.int64]:
    """The class that a file gives to each image, (N,)."""
    return np.asarray(scores(path, images).argmax(1), np.int64)


def scores(path: Path, images: Pixels) -> NDArray[np.float64]:
    """The scores of a file for each image, (N, K)."""
    options = session_options(quiet_threads=True)
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    batches = [session.run(None, {name: images[at : at + BATCH]})[0] for at in range(0, len(images), BATCH)]
    return np.concatenate(batches).astype(np.float64)


def measure(case: Case, names: list[str], widths: list[str], seeds: list[int]) -> Iterator[str]:
    """A row of Markdown for each set and width: drop of top-1 in points, agreement in percent and signal to noise of
    the scores in dB, for each seed.
    """
    known, images = case.measured.labels, case.measured.images
    reference = scores(case.network, images)
    expected = reference.argmax(1)
    for name in names:
        for bits in widths:
            drops, same, noise = [], [], []
            for seed in [0] if name == "real" else seeds:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "model.qdq.onnx"
                    case.quantized(case.calibration(name, seed), bits, path)
                    written = scores(path, images)
                found = written.argmax(1)
                noise.append(f"{10 * np.log10(np.square(reference).sum() / np.square(written - reference).sum()):.1f}")
                same.append(f"{100 * np.mean(found == expected):.2f}")
                if known is not None:
                    drops.append(f"{100 * (np.mean(expected == known) - np.mean(found == known)):.2f}")
            cells = ", ".join(drops), ", ".join(same), ", ".join(noise)
            yield f"| {case.name} | {name} | {bits.upper()} | {' | '.join(cells)} |"


def zoo_cases(zoo: Path, wanted: list[str]) -> Iterator[Case]:
    """The zoo's networks. CIFAR-10 ones take real training images; the others none, as their images measure them."""
    for model in models(zoo, wanted):
        for dataset in model.evaluation:
            measured = model.images(dataset)
            training = model.images(f"{dataset}_train").images if dataset.startswith("cifar") else measured.images[:1]
            yield Case(model.name, model.folded, model.preprocess, measured, training)


def file_cases(networks: list[Path], images: Path, preprocess: Preprocess) -> Iterator[Case]:
    """Networks of one's own on images of one's own."""
    inputs = preprocess.apply(np.load(images)["images"][: REAL + MEASURED])
    for network in networks:
        yield Case(network.stem, network, preprocess, Samples(inputs[REAL:]), inputs[:REAL])


def speed() -> None:
    """Print the CPU seconds of 256 pictures of 224 by 224."""
    started = time.process_time()
    Pictures().draw(256, (3, 224, 224), np.random.default_rng(0))
    print(f"256 pictures of 224 by 224: {time.process_time() - started:.1f} CPU seconds")


def main() -> None:
    """Print a row for each network, set and width."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--network", nargs="*", type=Path, default=[])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--preprocess", default="cifar10")
    parser.add_argument("--bits", nargs="*", default=["w8a8", "w4a4"])
    parser.add_argument("--sets", nargs="*", default=list(REPORTED), metavar="NAME")
    parser.add_argument("--refine", nargs="*", default=["bias"], metavar="NAME", help="refinements, in order")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    if args.speed:
        speed()
        return
    preprocess = as_preprocess(args.preprocess)
    if args.network and (preprocess is None or args.images is None):
        parser.error("--network needs --images and --preprocess")
    cases = zoo_cases(args.zoo, args.models)
    if args.network and preprocess is not None:
        cases = file_cases(args.network, args.images, preprocess)
    print("| network | samples | bits | drop | agreement, % | signal to noise, dB |\n|---|---|---|---|---|---|")
    for case in cases:
        # Images of the zoo that measure calibrate nothing.
        names = [name for name in args.sets if name != "real" or len(case.real) > 1]
        for row in measure(replace(case, refine=tuple(args.refine)), names, args.bits, args.seeds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
