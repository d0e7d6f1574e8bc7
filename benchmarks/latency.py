"""Latency of the INT8 files: float against ours and against ONNX Runtime's own quantizer, as a Markdown table.

usage: python -m benchmarks.latency [--zoo FOLDER] [--models NAME...] [--batches N...] [--rounds N]
       [--threads N | --cpu-time]

For each model of the zoo three sessions run in turn in one process, so that all meet the same machine: the float file
(BatchNormalization folded), our INT8 file, and what ``onnxruntime.quantization.quantize_static`` writes (QDQ, U8S8, per
channel), both calibrated by min-max on the same real images. Spinning is off: with it two sessions in one process fight
for the cores. A ratio is the median over the rounds of float time / INT8 time, with its quartiles.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.peers import quantize_with_onnxruntime
from benchmarks.zoo import DEFAULT_ZOO, models
from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.inputs import main_input_value
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.quantization.placement.place import encodings_of_weights, place, unify
from dfq_deploy.targets.catalog import find_target

Images = NDArray[np.float32]

CALIBRATION_IMAGES = 16
"""Ranges do not change the speed."""

SHORTEST = 0.01
"""Seconds that one measurement of the float file lasts at least; quick models run several times for it."""

FLOAT_WEIGHTED = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


@dataclass(frozen=True)
class Entry:
    """One model of the zoo: its files, and real images to feed."""

    name: str
    float_file: Path
    source: Path
    images: Images
    input: str


def entries(zoo: Path, wanted: list[str]) -> Iterator[Entry]:
    """The models of the zoo by name; all of them where none is named."""
    for model in models(zoo, wanted):
        images = model.images(model.evaluation[0]).images[:CALIBRATION_IMAGES]
        yield Entry(model.name, model.folded, model.bn, images, str(main_input_value(load(model.bn)).name))


def write_ours(entry: Entry, path: Path) -> None:
    """Our INT8 file, with min-max ranges."""
    target = find_target("cpu")
    model = load(entry.source)
    fold_batch_normalization(model)
    lower(model, target)
    placement = place(model, target)
    calibrator = find_plugin("calibrators", "minmax")()
    ranges = unify(calibrator.ranges(model, placement.activations, [{entry.input: entry.images}]), placement)
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in placement.activations.items()}
    encodings |= encodings_of_weights(model, placement, activations=encodings)
    find_plugin("exporters", target.exporter)().export(model, encodings, path)


def options(threads: int) -> ort.SessionOptions:
    """Extended and layout optimizations (the default), no spinning."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = threads
    chosen.log_severity_level = 3
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return chosen


def left_in_float(path: Path) -> int:
    """Weighted operators that ONNX Runtime runs in float."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = options(1)
        chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        chosen.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        ort.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])
        operators = Counter(node.op_type for node in onnx.load(chosen.optimized_model_filepath).graph.node)
    return sum(operators[name] for name in FLOAT_WEIGHTED)


@dataclass(frozen=True)
class Clock:
    """How time is taken: by the wall, or, on a busy machine, what one thread itself used of the processor."""

    now: Callable[[], float]
    threads: int

    def seconds(self, session: ort.InferenceSession, feeds: dict[str, Images], runs: int) -> float:
        """Time of one run, over ``runs`` of them."""
        started = self.now()
        for _ in range(runs):
            session.run(None, feeds)
        return (self.now() - started) / runs


def measure(files: list[Path], feeds: dict[str, Images], rounds: int, clock: Clock) -> NDArray[np.float64]:
    """Seconds of a run, shape (rounds, files); the order changes with the round, since who comes first pays."""
    sessions = [ort.InferenceSession(str(f), options(clock.threads), providers=["CPUExecutionProvider"]) for f in files]
    for session in sessions:
        clock.seconds(session, feeds, 3)
    runs = max(1, round(SHORTEST / clock.seconds(sessions[0], feeds, 3)))
    times = np.zeros((rounds, len(files)))
    rng = np.random.default_rng(0)
    for row in times:
        for column in rng.permutation(len(files)):
            row[column] = clock.seconds(sessions[column], feeds, runs)
    return times


def ratio(times: NDArray[np.float64], column: int) -> str:
    """Median of float / INT8 over the rounds, with its quartiles."""
    low, middle, high = np.percentile(times[:, 0] / times[:, column], [25, 50, 75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=[], help="names in zoo.json; default: all")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="one thread, its CPU time; for busy machines")
    args = parser.parse_args()
    clock = Clock(time.thread_time, 1) if args.cpu_time else Clock(time.perf_counter, args.threads)
    kind = "CPU time" if args.cpu_time else "time"
    print(
        f"ONNX Runtime {ort.__version__}, {clock.threads} thread(s), {args.rounds} rounds; float {kind} / INT8 {kind}\n"
    )
    print("| model | batch | float ms | INT8 ms | ours | ONNX Runtime's quantizer | float Conv/Gemm left |")
    print("|---|---|---|---|---|---|---|")
    for entry in entries(args.zoo, args.models):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = Path(folder) / "ours.onnx", Path(folder) / "theirs.onnx"
            write_ours(entry, ours)
            quantize_with_onnxruntime(entry.float_file, entry.images, theirs)
            left = f"{left_in_float(ours)}, {left_in_float(theirs)}"
            for batch in args.batches:
                feeds = {entry.input: np.resize(entry.images, (batch, *entry.images.shape[1:]))}
                times = measure([entry.float_file, ours, theirs], feeds, args.rounds, clock)
                median = 1000 * np.median(times, axis=0)
                cells = [entry.name, batch, f"{median[0]:.2f}", f"{median[1]:.2f}", ratio(times, 1), ratio(times, 2)]
                print("| " + " | ".join(map(str, [*cells, left])) + " |", flush=True)


if __name__ == "__main__":
    main()
