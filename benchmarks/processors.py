"""What this processor makes of 8-bit weights in ONNX Runtime's default sessions, as a Markdown table.

usage: python -m benchmarks.processors

The quickstart's network, calibrated with 8 and with 7 bits of weights, on its 500 held-out digits: signal to noise
against float in default sessions, and in those that add products exactly (``session.x64quantprecision``), and the time
of float as a multiple of theirs, in turn. On processors with VNNI both give the same.
"""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime as ort

from dfq_deploy import calibrate
from dfq_deploy.runtime.processor import lacks_vnni
from dfq_deploy.runtime.session import EXACT_PRODUCTS
from dfq_deploy.samples.image_folder import read_samples
from examples.digits import data

EXAMPLE = Path(__file__).parents[1] / "examples/digits"
MODEL = EXAMPLE / "digits_bn.onnx"
SHAPE = (1, 16, 16)
RUNS = 200


def opened(path: Path, exact: bool) -> ort.InferenceSession:
    """A session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:
        options.add_session_config_entry(*EXACT_PRODUCTS)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ratio(reference: ort.InferenceSession, other: ort.InferenceSession, row: np.ndarray) -> float:
    """Median over pairs of runs of the time of ``reference`` divided by that of ``other``."""
    found = []
    for _ in range(RUNS):
        times = []
        for session in (reference, other):
            started = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: row})
            times.append(time.perf_counter() - started)
        found.append(times[0] / times[1])
    return median(found)


def main() -> None:
    """Quantize, run, print."""
    images = read_samples(EXAMPLE / "held_out.npz", data.PREPROCESS, SHAPE).images
    reference = opened(MODEL, exact=False)
    expected = reference.run(None, {reference.get_inputs()[0].name: images})[0]
    print(f"VNNI: {'no' if lacks_vnni() else 'yes, or not x86'}\n")
    print("| weights | sessions | dB | same class, % | float / INT8 time |\n|---|---|---:|---:|---:|")
    with TemporaryDirectory() as folder:
        for bits in ("w8a8", "w7a8"):
            output = Path(folder) / bits
            calibrate(MODEL, synth="procedural", bits=bits, preprocess=data.PREPROCESS, floor="none", output=output)
            for exact in (False, True):
                session = opened(output / "model.qdq.onnx", exact)
                scores = session.run(None, {session.get_inputs()[0].name: images})[0]
                noise = np.square(scores - expected).sum() / np.square(expected).sum()
                same = 100 * (scores.argmax(1) == expected.argmax(1)).mean()
                kind = "exact" if exact else "default"
                times = ratio(reference, session, images[:1])
                print(f"| {bits} | {kind} | {-10 * np.log10(noise):.1f} | {same:.1f} | {times:.2f} |")


if __name__ == "__main__":
    main()
