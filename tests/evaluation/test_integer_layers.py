"""Layers on integers, rewritten, compute what ONNX Runtime's kernels compute."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.evaluation.integer_layers import with_float_layers
from dfq_deploy.evaluation.layer_bias import bias_of
from dfq_deploy.evaluation.qdq_pairs import activation_pairs, weight_pairs

rng = np.random.default_rng(0)

WEIGHT = rng.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8)
CONSTANTS: dict[str, np.ndarray] = {
    **{"xs": np.asarray(0.05, np.float32), "xz": np.asarray(120, np.uint8)},
    **{"ys": np.asarray(0.1, np.float32), "yz": np.asarray(100, np.uint8)},
    **{"ws": np.array([0.01, 0.02, 0.03, 0.01], np.float32), "wz": np.zeros(4, np.int8), "w": WEIGHT},
    "bias": np.array([100, -200, 300, 0], np.int32),
}


def model(
    nodes: list[onnx.NodeProto], shapes: tuple[list[int], list[int]], constants: dict[str, np.ndarray]
) -> ir.Model:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("x", "y"), shapes, strict=True)
    ]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def outputs(given: ir.Model, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(given).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_a_convolution() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["x_quantized"]),
        helper.make_node(
            "QLinearConv", ["x_quantized", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"], ["c_quantized"],
            name="conv_quant",
        ),
        helper.make_node(
            "QLinearAdd", ["c_quantized", "ys", "yz"] * 2 + ["ys", "yz"], ["a_quantized"], domain="com.microsoft"
        ),
        helper.make_node("DequantizeLinear", ["a_quantized", "ys", "yz"], ["y"]),
    ]  # fmt: skip
    given = model(nodes, ([1, 3, 5, 5], [1, 4, 5, 5]), CONSTANTS)
    found = with_float_layers(given)
    (pair,) = weight_pairs(found)
    assert (pair.node.op_type, pair.node.name, pair.tensor) == ("Conv", "conv", "w")
    np.testing.assert_array_equal(pair.values, WEIGHT * CONSTANTS["ws"].reshape(4, 1, 1, 1))
    assert [entry.tensor for entry in activation_pairs(found)] == ["x", "c", "y"]
    x = rng.normal(0, 2, (1, 3, 5, 5)).astype(np.float32)
    np.testing.assert_allclose(outputs(found, x), outputs(given, x), atol=0.11)  # one step, where rounding differs


def test_one_scale_and_operators_that_move_integers() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["x_quantized"]),
        helper.make_node(
            "QLinearConv", ["x_quantized", "xs", "xz", "w", "s", "z", "ys", "yz", "bias"], ["c_quantized"],
            name="conv_quant",
        ),
        helper.make_node("MaxPool", ["c_quantized"], ["m_quantized"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m_quantized"], ["f_quantized"]),
        helper.make_node("DequantizeLinear", ["f_quantized", "ys", "yz"], ["y"]),
    ]  # fmt: skip
    constants = {**CONSTANTS, "s": np.asarray(0.02, np.float32), "z": np.asarray(0, np.int8)}
    given = model(nodes, ([1, 3, 4, 4], [1, 16]), constants)
    found = with_float_layers(given)
    assert [entry.tensor for entry in activation_pairs(found)] == ["x", "c", "m", "y"]
    (pair,) = weight_pairs(found)
    bias = bias_of(pair.node)
    assert bias is not None
    np.testing.assert_allclose(bias.values, CONSTANTS["bias"] * 0.05 * 0.02, rtol=1e-6)
    x = rng.normal(0, 2, (1, 3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(outputs(found, x), outputs(given, x), atol=0.11)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_product(transposed: int) -> None:
    weight = WEIGHT.reshape(4, 3) if transposed else np.ascontiguousarray(WEIGHT.reshape(4, 3).T)
    gemm = helper.make_node(
        "QGemm", ["x_quantized", "xs", "xz", "w", "ws", "wz", "bias", "ys", "yz"], ["c_quantized"], name="fc_quant",
        domain="com.microsoft", transB=transposed,
    )  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["x_quantized"]),
        gemm,
        helper.make_node("DequantizeLinear", ["c_quantized", "ys", "yz"], ["y"]),
    ]
    given = model(nodes, ([2, 3], [2, 4]), {**CONSTANTS, "w": weight})
    found = with_float_layers(given)
    (pair,) = weight_pairs(found)
    assert (pair.node.op_type, pair.node.name, pair.axis) == ("Gemm", "fc", 1 - transposed)
    x = rng.normal(0, 2, (2, 3)).astype(np.float32)
    np.testing.assert_allclose(outputs(found, x), outputs(given, x), atol=0.11)


def test_a_product_whose_ranges_are_computed_at_run_time() -> None:
    weight = np.ascontiguousarray(WEIGHT.reshape(4, 3).T)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["p"], name="fc_quant"),
        helper.make_node("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["steps"]),
        helper.make_node("Mul", ["f", "steps"], ["y"]),
    ]
    given = model(nodes, ([2, 3], [2, 4]), {"w": weight, "ws": CONSTANTS["ws"], "wz": CONSTANTS["wz"]})
    found = with_float_layers(given)
    (pair,) = weight_pairs(found)
    assert (pair.node.op_type, pair.node.name) == ("MatMul", "fc")
    x = rng.normal(0, 2, (2, 3)).astype(np.float32)
    exact = x @ (weight * CONSTANTS["ws"])
    np.testing.assert_allclose(outputs(found, x), exact, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outputs(given, x), exact, atol=0.2)


def test_a_model_without_such_layers_is_left_alone() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    given = model(nodes, ([2, 3], [2, 3]), {})
    assert with_float_layers(given) is given


def test_layers_and_tensors_that_kept_their_names_keep_them() -> None:
    """Of the nodes that only move integers ONNX Runtime's quantizer keeps the names; other tools keep all."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["x_quantized"]),
        helper.make_node(
            "QLinearConv", ["x_quantized", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"], ["c"], name="c"
        ),
        helper.make_node("MaxPool", ["c"], ["m_quantized"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node(
            "QLinearLeakyRelu", ["m_quantized", "ys", "yz", "ys", "yz"], ["r_quantized"], domain="com.microsoft"
        ),
        helper.make_node("DequantizeLinear", ["r_quantized", "ys", "yz"], ["y"]),
    ]
    given = model(nodes, ([1, 3, 4, 4], [1, 4, 2, 2]), CONSTANTS)
    found = with_float_layers(given)
    layers = {node.op_type: (node.name, node.outputs[0].name) for node in found.graph}
    assert layers["Conv"] == ("c", "c")
    assert layers["MaxPool"] == ("pool", "m")
    assert layers["LeakyRelu"] == ("r", "r")
    names = [value.name for node in found.graph for value in node.outputs]
    assert len(set(names)) == len(names)
    x = rng.normal(0, 2, (1, 3, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(outputs(found, x), outputs(given, x), atol=0.11)
