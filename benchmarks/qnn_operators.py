"""Operators that newer versions of QNN list: which of them does the simulator of the NPU run in 8 bits, as Markdown.

usage: python -m benchmarks.qnn_operators [OPERATOR...] [--soc-model NUMBER]

Needs ``onnxruntime-qnn``. A small graph of a convolution and the operator is calibrated for ``qnn`` with that operator
taken for a supported one, and opened on the simulator with no node on the CPU. The last column is the largest
difference from ONNX Runtime's CPU provider on the same file, in percent of the output's range. Without --soc-model the
simulator has its default chip; 60 is the number of Snapdragon X Elite in QNN's documentation.
"""

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from dfq_deploy.exporters.qnn import open_session
from numpy.typing import NDArray

from dfq_deploy import Samples, calibrate
from dfq_deploy.errors import DfqError
from dfq_deploy.targets.catalog import QNN, TARGETS

SEED = 0

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """The nodes behind the convolution ``c``; ``y`` is the output.

    Args:
        since: the version of onnxruntime-qnn that added it, by its release notes; empty for earlier ones.
        arrays: constants.
    """

    since: str
    nodes: str
    opset: int = 17
    arrays: Arrays = field(default_factory=dict)


def drawn(*shape: int) -> NDArray[np.float32]:
    """A constant."""
    return np.random.default_rng(SEED).normal(0, 0.3, shape).astype(np.float32)


SEQUENCE: Arrays = {"sizes": np.array([1, 4, 36]), "gate": drawn(1, 12, 36), "again": drawn(1, 12, 4)}
BOXES: Arrays = {"boxes": np.array([[0, 0, 0, 3, 3], [0, 1, 1, 4, 4]], np.float32)}
BOX: Arrays = {"boxes": np.array([[0, 0, 3, 3]], np.float32), "image": np.array([0])}
NUMBERS: Arrays = {"low": np.array(0, np.float32), "high": np.array(0.3, np.float32)}
STEPS = "t = Reshape(c, sizes) u = Transpose <perm = [1, 0, 2]> (t)"

CASES = {
    "CastLike": Case("", "g = CastLike(c, c) y = Relu(g)", 19),
    "GRU": Case("2.4", f"{STEPS} y, h = GRU <hidden_size = 4> (u, gate, again)", 14, SEQUENCE),
    "GridSample": Case("", "y = GridSample(c, grid)", 16, {"grid": np.tanh(drawn(1, 4, 4, 2))}),
    "LSTM": Case(
        "", f"{STEPS} y, h = LSTM <hidden_size = 3> (u, gate, thrice)", 14, {**SEQUENCE, "thrice": drawn(1, 12, 3)}
    ),
    "LpPool": Case("2.4", "y = LpPool <kernel_shape = [2, 2], p = 2> (c)", 18),
    "MaxRoiPool": Case("2.7", "y = MaxRoiPool <pooled_shape = [2, 2]> (c, boxes)", 16, BOXES),
    "ReduceLogSumExp": Case("2.5", "y = ReduceLogSumExp <axes = [3], keepdims = 1> (c)", 13),
    "RoiAlign": Case("", "y = RoiAlign <output_height = 2, output_width = 2> (c, boxes, image)", 16, BOX),
    "Selu": Case("2.4", "y = Selu(c)"),
    "Swish": Case("2.7", "y = Swish(c)", 24),
    "Xor": Case("2.4", "p = Greater(c, low) q = Less(c, high) r = Xor(p, q) y = Where(r, c, low)", 17, NUMBERS),
    "com.microsoft::QuickGelu": Case("", "y = com.microsoft.QuickGelu(c)"),
}


def graph(case: Case) -> onnx.ModelProto:
    """The float model."""
    head = f'<ir_version: 10, opset_import: ["" : {case.opset}, "com.microsoft" : 1]>'
    model = onnx.parser.parse_model(f"{head} g (float[1,3,8,8] x) => (float y) {{ c = Conv(x, w) {case.nodes} }}")
    arrays = {"w": drawn(4, 3, 3, 3), **case.arrays}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def outcome(operator: str, case: Case, chip: Mapping[str, str]) -> tuple[str, str]:
    """What the simulator of a chip says, and the largest difference."""
    samples = Samples(np.random.default_rng(SEED).normal(size=(8, 3, 8, 8)).astype(np.float32))
    feed = {"x": samples.images[:1]}
    taken = replace(QNN, whole_ops=(QNN.whole_ops or frozenset()) | {operator})
    TARGETS["qnn"] = replace(taken, quantized_ops=QNN.quantized_ops | {operator})
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = calibrate(
                graph(case), data=samples, target="qnn", method="minmax", refine=(), floor="none",
                output=Path(folder) / "out",
            ).model_path  # fmt: skip
            assert path is not None
            found = np.asarray(open_session(path, options=chip).run(None, feed)[0])
        except DfqError as problem:
            return str(problem).partition("refuses it: ")[2] or str(problem), ""
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        expected = np.asarray(session.run(None, feed)[0])
    span = float(expected.max() - expected.min())
    return "runs", f"{100 * float(np.abs(found - expected).max()) / span:.1f}"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("operators", nargs="*", metavar="OPERATOR")
    parser.add_argument("--soc-model", help="number of the chip")
    chosen = parser.parse_args()
    chip = {} if chosen.soc_model is None else {"soc_model": chosen.soc_model}
    ort.set_default_logger_severity(4)
    print("| operator | since | in 8 bits on the simulator | difference, % |")
    print("|---|---|---|---:|")
    for name in chosen.operators or CASES:
        print(f"| {name} | {CASES[name].since} | {' | '.join(outcome(name, CASES[name], chip))} |", flush=True)


if __name__ == "__main__":
    main()
