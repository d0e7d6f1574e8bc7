"""What this processor makes of 8-bit weights in ONNX Runtime and OpenVINO, as a Markdown table.

usage: python -m benchmarks.processors [--zoo FOLDER] [--models NAME...] [--limit N]

The quickstart's network on its 500 held-out digits, then networks of the zoo on real images: class and scores against
those of float, and the time of float as a multiple of INT8's, in turn, one image, one thread. Weights of the target
``cpu`` keep sums of two products within 16 bits, those of ``web`` need not, and 7 bits do so in another way. Exact
sessions set ``session.x64quantprecision``. On processors with VNNI they give what default ones do. OpenVINO runs the
same files where it is installed.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.zoo import DEFAULT_ZOO, models
from dfq_deploy import Preprocess, calibrate
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.encode import prepare
from dfq_deploy.quantization.placement.place import encodings_of_weights
from dfq_deploy.quantization.weights import best_bounds
from dfq_deploy.runtime.processor import lacks_vnni
from dfq_deploy.runtime.session import EXACT_PRODUCTS
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.targets.catalog import find_target
from examples.digits import data

EXAMPLE = Path(__file__).parents[1] / "examples/digits"
SHAPE = (1, 16, 16)
RUNS = 200
BATCH = 50

UNLIMITED = "8 bits, any sums"

WEIGHTS = (("8 bits, `cpu`", "cpu", "w8a8"), (UNLIMITED, "web", "w8a8"), ("7 bits", "web", "w7a8"))
"""Name of the row, target and bits."""

Floats = NDArray[np.float32]

Run = Callable[[Floats], NDArray[Any]]
"""Maps images to the first output."""


@dataclass(frozen=True)
class Network:
    """A float file, with the images to measure on."""

    name: str
    path: Path
    preprocess: Preprocess
    images: Floats


def networks(zoo: Path, wanted: list[str], limit: int) -> Iterator[Network]:
    """The quickstart's network, then those of the zoo that are wanted, if it is there."""
    digits = read_samples(EXAMPLE / "held_out.npz", data.PREPROCESS, SHAPE).images
    yield Network("quickstart", EXAMPLE / "digits_bn.onnx", data.PREPROCESS, digits)
    for model in models(zoo, wanted) if wanted else ():
        images = model.images(model.evaluation[0]).images
        yield Network(model.name, model.folded, model.preprocess, images[:: max(1, len(images) // limit)])


def onnx_runtime(path: Path, *, exact: bool = False) -> Run:
    """A session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:
        options.add_session_config_entry(*EXACT_PRODUCTS)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0])


def openvino(path: Path) -> Run:
    """A network compiled for one thread."""
    from openvino import Core

    network = Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda images: np.asarray(network(images)[0])


def scores(run: Run, images: Floats) -> NDArray[Any]:
    """The first output of all images."""
    return np.concatenate([run(images[at : at + BATCH]) for at in range(0, len(images), BATCH)])


def ratio(reference: Run, other: Run, image: Floats) -> float:
    """Median over pairs of runs of the time of ``reference`` divided by that of ``other``."""
    found = []
    for _ in range(RUNS):
        times = []
        for run in (reference, other):
            started = time.perf_counter()
            run(image)
            times.append(time.perf_counter() - started)
        found.append(times[0] / times[1])
    return median(found)


def compared(path: Path, images: Floats, runtime: Callable[[Path], Run], mine: Run) -> str:
    """The cells of a row.

    Args:
        runtime: opens the float file ``path``.
        mine: runs the quantized one.
    """
    reference = runtime(path)
    expected, found = (scores(run, images) for run in (reference, mine))
    noise = np.square(found - expected).sum() / np.square(expected).sum()
    same = 100 * (found.argmax(1) == expected.argmax(1)).mean()
    return f"{-10 * np.log10(noise):.1f} | {same:.1f} | {ratio(reference, mine, images[:1]):.2f}"


def raised(path: Path) -> float:
    """How much larger the scales of weights for ``cpu`` are than they need be for any sums, in percent, in the mean."""
    prepared = prepare(load(path), find_target("cpu"))
    kept, free = (
        encodings_of_weights(prepared.model, replace(prepared.placement, narrow_sums=narrow), best_bounds)
        for narrow in (True, False)
    )
    ratios = np.concatenate([np.atleast_1d(kept[name].scale / free[name].scale) for name in kept])
    return 100 * float(ratios.mean() - 1)


def main() -> None:
    """Quantize, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=2000, help="images of each network, spread evenly")
    args = parser.parse_args()
    if args.models and not (args.zoo / "zoo.json").is_file():
        sys.exit(f"{args.zoo} has no zoo.json: pass --zoo")
    print(f"VNNI: {'no' if lacks_vnni() else 'yes, or not x86'}\n")
    print("| network | weights | run by | dB | same class, % | float / INT8 time |\n|---|---|---|---:|---:|---:|")
    scales = []
    for network in networks(args.zoo, args.models, args.limit):
        scales.append(f"{network.name} {raised(network.path):.0f} %")
        for weights, target, bits in WEIGHTS:
            with TemporaryDirectory() as folder:
                output = Path(folder) / "int8"
                calibrate(
                    network.path,
                    synth="procedural",
                    preprocess=network.preprocess,
                    target=target,
                    bits=bits,
                    floor="none",
                    output=output,
                )
                file = output / "model.qdq.onnx"
                runs: dict[str, tuple[Callable[[Path], Run], Run]] = {
                    "ONNX Runtime": (onnx_runtime, onnx_runtime(file))
                }
                if weights == UNLIMITED:
                    runs["ONNX Runtime, exact"] = (onnx_runtime, onnx_runtime(file, exact=True))
                if find_spec("openvino"):
                    runs["OpenVINO"] = (openvino, openvino(file))
                for kind, (runtime, mine) in runs.items():
                    cells = compared(network.path, network.images, runtime, mine)
                    print(f"| {network.name} | {weights} | {kind} | {cells} |", flush=True)
    print(f"\nScales of weights for cpu are larger by: {', '.join(scales)}")


if __name__ == "__main__":
    main()
