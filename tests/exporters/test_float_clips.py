"""Relu and Clip behind products that write floats, as ONNX Runtime runs them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from dfq_deploy.exporters.qdq import quantized_model
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.quantization.placement.place import encodings_of_weights, place, unify
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]

CPU = find_target("cpu")


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


ARRAYS = {
    **{"w": normal(0, 16, 16), "b": normal(1, 16), "v": normal(2, 16, 16)},
    **{"low": np.array(-0.5, np.float32), "high": np.array(2, np.float32)},
}

FORMS = {
    "an output that a Relu before the next layer reads": (
        "float[n,16] y, float[n,16] z",
        "y = Gemm(x, w, b) r = Relu(y) z = MatMul(r, v)",
        2,
    ),
    "another reader beside the Relu": (
        "float[n,16] y, float[n,16] z",
        "g = Gemm(x, w, b) r = Relu(g) y = Sigmoid(g) z = MatMul(r, v)",
        2,
    ),
    "a Relu that no layer follows": ("float[n,16] y", "g = Gemm(x, w, b) r = Relu(g) y = Softmax(r)", 1),
    "a Clip that no layer follows": ("float[n,16] y", "g = Gemm(x, w, b) c = Clip(g, low, high) y = Softmax(c)", 1),
    "a Clip with one end": ("float[n,16] y", "g = MatMul(x, w) c = Clip(g, , high) y = Softmax(c)", 1),
}


def quantized(proto: onnx.ModelProto) -> onnx.ModelProto:
    model = load(proto)
    placement = place(model, CPU)
    ranges = unify(dict.fromkeys(placement.activations, Range(-6.0, 6.0)), placement)
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in placement.activations.items()}
    encodings |= encodings_of_weights(model, placement, activations=encodings)
    return onnx.load_from_string(to_bytes(quantized_model(model, encodings)))


def outputs(model: onnx.ModelProto) -> list[NDArray[np.float32]]:
    run = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run
    found: list[NDArray[np.float32]] = run(None, {"x": normal(3, 8, 16)})
    return found


@pytest.mark.parametrize("form", FORMS)
def test_the_product_keeps_its_integer_kernel(form: str, model_of: ModelOf, tmp_path: Path) -> None:
    shapes, nodes, layers = FORMS[form]
    proto = model_of("float[n,16] x", shapes, nodes, {k: a for k, a in ARRAYS.items() if k in nodes})
    file = quantized(proto)
    onnx.checker.check_model(file, full_check=True)
    count = count_kernels(file)
    assert (count.integer, count.total) == (layers, layers)
    for exact, rounded in zip(outputs(proto), outputs(file), strict=True):
        assert np.abs(rounded - exact).max() < 0.2


def test_a_relu_that_is_folded_or_written_stays(model_of: ModelOf) -> None:
    nodes = "g = Gemm(x, w, b) r = Relu(g) h = MatMul(r, v) y = Relu(h)"
    arrays = {name: array for name, array in ARRAYS.items() if name in ("w", "b", "v")}
    file = quantized(model_of("float[n,16] x", "float[n,16] y", nodes, arrays))
    assert Counter(node.op_type for node in file.graph.node)["Relu"] == 2
    assert count_kernels(file).integer == 2
