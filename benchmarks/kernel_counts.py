"""Is 'N of M layers in INT8' what ONNX Runtime runs? Counted twice, by code that shares nothing, for real files.

``python -m benchmarks.kernel_counts --folder FOLDER [FILE.onnx ...]`` quantizes each model of :mod:`benchmarks.models`
in FOLDER, and each other FILE, for ``cpu`` with a few procedural samples. The count that ``calibrate`` prints is held
against one by hand: integer kernels by their operators in the file that ONNX Runtime writes of its optimized graph, and
layers by theirs in the quantized file. Beside it stands what the run says of the speed, so that a file that is slower
than float is seen to be called so. Exits with 1 where counts differ.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime as ort

from benchmarks.models import MODELS, Case
from dfq_deploy.errors import DfqError
from dfq_deploy.pipeline.calibrate import calibrate

__all__ = ["by_hand"]

INTEGERS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger")
DYNAMIC = ("DynamicQuantizeMatMul", "DynamicQuantizeLSTM")
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "ConvInteger", "MatMulInteger")


def by_hand(path: Path, optimized: Path) -> tuple[int, int]:
    """Integer kernels in ONNX Runtime's own file of ``path``, and layers in ``path``."""
    options = ort.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 3, str(optimized)
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kernels, layers = (Counter(node.op_type for node in _nodes(onnx.load(file).graph)) for file in (optimized, path))
    return sum(kernels[name] for name in (*INTEGERS, *DYNAMIC)), sum(layers[name] for name in (*LAYERS, *DYNAMIC))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of the graphs in its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def main() -> int:
    """Print a line for each file; return how many counts differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--folder", type=Path, help="holds NAME.onnx for the models of benchmarks.models")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--samples", type=int, default=8)
    args = parser.parse_args()
    cases = [(args.folder / f"{case.name}.onnx", case) for case in MODELS if args.folder is not None]
    cases += [(path, Case(path.stem, "", "", "", "")) for path in args.files]
    print("| model | printed | by hand | | speed |\n|---|---|---|---|---|")
    differing = 0
    for path, case in cases:
        if path.is_file() and (not args.only or case.name in args.only):
            differing += not _row(path, case, args.samples)
    return min(differing, 1)


def _row(path: Path, case: Case, samples: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = calibrate(
                path, synth="procedural", count=samples, preprocess=case.preprocess, floor="none",
                input_shapes=case.shapes or None, input_ranges=case.ranges or None, output=Path(folder) / "out",
            )  # fmt: skip
        except DfqError as problem:
            print(f"| {case.name} | refused: {problem} | | | |", flush=True)
            return True
        assert result.model_path is not None
        integer, total = by_hand(result.model_path, Path(folder) / "optimized.onnx")
    report, findings = result.report, result.report["verdict"]["findings"]
    said = [finding for finding in findings if "than-float" in finding["code"] or finding["code"] == "as-fast-as-float"]
    speed = "; ".join(f"{finding['level']}: {finding['message']}" for finding in said)
    printed = report["kernels"]["integer"], report["kernels"]["total"]
    equal = printed == (integer, total)
    counts = f"{printed[0]} of {printed[1]} | {integer} of {total} | {'equal' if equal else 'DIFFERENT'}"
    print(f"| {case.name} | {counts} | {speed} |", flush=True)
    return equal


if __name__ == "__main__":
    sys.exit(main())
