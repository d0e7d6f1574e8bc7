"""What this processor makes of 8-bit weights in ONNX Runtime's default sessions, as a Markdown table.

usage: python -m benchmarks.processors [--zoo FOLDER] [--models NAME...] [--limit N]

The quickstart's network on its 500 held-out digits, then networks of the zoo on real images: class and scores against
those of float, and the time of float as a multiple of INT8's, in turn, one image, one thread. Weights of the target
``cpu`` keep sums of two products within 16 bits, those of ``web`` need not, and 7 bits do so in another way. Exact
sessions set ``session.x64quantprecision``. On processors with VNNI they give what default ones do.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.zoo import DEFAULT_ZOO, models
from dfq_deploy import Preprocess, calibrate
from dfq_deploy.runtime.processor import lacks_vnni
from dfq_deploy.runtime.session import EXACT_PRODUCTS
from dfq_deploy.samples.image_folder import read_samples
from examples.digits import data

EXAMPLE = Path(__file__).parents[1] / "examples/digits"
SHAPE = (1, 16, 16)
RUNS = 200
BATCH = 50

UNLIMITED = "8 bits, any sums"

WEIGHTS = (("8 bits, `cpu`", "cpu", "w8a8"), (UNLIMITED, "web", "w8a8"), ("7 bits", "web", "w7a8"))
"""Name of the row, target and bits."""

Floats = NDArray[np.float32]


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


def opened(path: Path, *, exact: bool) -> ort.InferenceSession:
    """A session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:
        options.add_session_config_entry(*EXACT_PRODUCTS)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, images: Floats) -> NDArray[Any]:
    """The first output of all images."""
    name = session.get_inputs()[0].name
    batches = range(0, len(images), BATCH)
    return np.concatenate([session.run(None, {name: images[at : at + BATCH]})[0] for at in batches])


def ratio(reference: ort.InferenceSession, other: ort.InferenceSession, image: Floats) -> float:
    """Median over pairs of runs of the time of ``reference`` divided by that of ``other``."""
    found = []
    for _ in range(RUNS):
        times = []
        for session in (reference, other):
            started = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            times.append(time.perf_counter() - started)
        found.append(times[0] / times[1])
    return median(found)


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
    print("| network | weights | sessions | dB | same class, % | float / INT8 time |\n|---|---|---|---:|---:|---:|")
    for network in networks(args.zoo, args.models, args.limit):
        reference = opened(network.path, exact=False)
        expected = run(reference, network.images)
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
                for kind in ("default", "exact") if weights == UNLIMITED else ("default",):
                    session = opened(output / "model.qdq.onnx", exact=kind == "exact")
                    scores = run(session, network.images)
                    noise = np.square(scores - expected).sum() / np.square(expected).sum()
                    same = 100 * (scores.argmax(1) == expected.argmax(1)).mean()
                    faster = ratio(reference, session, network.images[:1])
                    figures = f"{-10 * np.log10(noise):.1f} | {same:.1f} | {faster:.2f}"
                    print(f"| {network.name} | {weights} | {kind} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
