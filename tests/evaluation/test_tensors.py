"""Distances tensor by tensor, on a graph small enough to work out by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.evaluation.tensors import tensor_distances
from dfq_deploy.samples.samples import Samples

U8 = QuantType(8, signed=False, symmetric=False)


def encoding(scale: float) -> Encoding:
    return Encoding(np.asarray(scale, np.float32), np.asarray(0, np.int32), U8)


def doubled(
    nodes: list[onnx.NodeProto], *arrays: tuple[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]
) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in ("x", "y")]
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays]
    graph = helper.make_graph(nodes, "doubled", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


TWO, ZERO, STEP = (
    ("two", np.asarray(2, np.float32)),
    ("zero", np.asarray(0, np.uint8)),
    ("step", np.asarray(0.5, np.float32)),
)

FLOAT = doubled([helper.make_node("Mul", ["x", "two"], ["y"])], TWO)

QUANTIZED = doubled(
    [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "step", "zero"], ["x_dq"]),
        helper.make_node("Mul", ["x_dq", "two"], ["y_float"]),
        helper.make_node("QuantizeLinear", ["y_float", "step", "zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "step", "zero"], ["y"]),
    ],
    TWO,
    ZERO,
    STEP,
)


def test_an_input_and_an_output_by_hand() -> None:
    images = np.array([[1.0], [1.25], [200.0], [-1.0]], np.float32)
    encodings = {"x": encoding(0.5), "y": encoding(0.5), "two": encoding(0.01)}
    first, second = tensor_distances(FLOAT, QUANTIZED, encodings, Samples(images))
    assert (first.name, second.name) == ("x", "y")
    # Rounded to 0.5 in [0, 127.5]: 1, 1 (half to even), 127.5, 0.
    signal, noise = 1 + 1.25**2 + 200**2 + 1, 0.25**2 + 72.5**2 + 1
    assert first.snr == pytest.approx(10 * np.log10(signal / noise), rel=1e-6)
    assert first.clipped == 0.5
    # Twice that, clipped at 127.5 again: 2, 2, 127.5, 0 for 2, 2.5, 400, -2.
    assert second.snr == pytest.approx(10 * np.log10(4 * signal / (0.5**2 + 272.5**2 + 4)), rel=1e-6)
    assert second.to_json() == {"name": "y", "snr_db": pytest.approx(second.snr), "clipped": 0.5}


def test_what_is_not_quantized_is_left_out() -> None:
    images = np.ones((3, 1), np.float32)
    assert tensor_distances(FLOAT, FLOAT, {"x": encoding(0.5)}, Samples(images)) == ()
    assert tensor_distances(FLOAT, QUANTIZED.SerializeToString(), {}, Samples(images)) == ()


def test_integers_that_a_clip_cuts_are_followed() -> None:
    ends = ("least", np.asarray(0, np.uint8)), ("most", np.asarray(7, np.uint8))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["x_q"]),
        helper.make_node("Clip", ["x_q", "least", "most"], ["x_c"]),
        helper.make_node("DequantizeLinear", ["x_c", "step", "zero"], ["x_dq"]),
        helper.make_node("Mul", ["x_dq", "two"], ["y"]),
    ]
    three = Encoding(np.asarray(0.5, np.float32), np.asarray(0, np.int32), QuantType(3, signed=False, symmetric=False))
    images = np.array([[1.0], [5.5]], np.float32)
    (found,) = tensor_distances(FLOAT, doubled(nodes, TWO, ZERO, STEP, *ends), {"x": three}, Samples(images))
    # Three bits end at 3.5.
    assert found.snr == pytest.approx(10 * np.log10((1 + 5.5**2) / 2**2), rel=1e-6)
    assert found.clipped == 0.5
