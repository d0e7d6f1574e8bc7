"""How tensors are quantized, read from small files; values against ONNX's reference implementation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from dfq_deploy.quantization.qdq_reader import (
    constant_dequantizer,
    constant_values,
    dequantization_of,
    dequantizers_of,
    integers_and_encoding,
    quantization_of,
    quantizer_of,
)

ModelOf = Callable[..., onnx.ModelProto]

SCALES = np.array([0.5, 0.25, 2], np.float32)


def stored(values: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any] | None, kind: ir.DataType) -> ir.Model:
    """A DequantizeLinear of constants, on axis 0 where there are several scales."""
    arrays = {"w": values, "s": scale, **({} if zero is None else {"z": zero})}
    constants = []
    for name, array in arrays.items():
        dtype = ir.DataType.FLOAT if name == "s" else kind
        tensor = ir.Tensor(array.astype(dtype.numpy()), dtype=dtype, name=name)
        constants.append(ir.val(name, const_value=tensor))
    attributes = {"axis": 0} if scale.ndim else {}
    node = ir.node("DequantizeLinear", constants, attributes, name="dq")
    node.outputs[0].name = "y"
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=constants, opset_imports={"": 21}, name="g")
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(
    ("kind", "bits", "signed"),
    [("INT4", 4, True), ("UINT4", 4, False), ("INT8", 8, True), ("UINT8", 8, False), ("INT16", 16, True)],
)
@pytest.mark.parametrize("channels", [True, False])
@pytest.mark.parametrize("with_zero", [True, False])
def test_a_stored_constant(kind: str, bits: int, signed: bool, channels: bool, with_zero: bool) -> None:
    scale = SCALES if channels else np.array(0.5, np.float32)
    zero = np.full(scale.shape, 3, np.int32) if with_zero else None
    model = stored(np.arange(6).reshape(3, 2), scale, zero, ir.DataType[kind])
    integers, encoding = integers_and_encoding(model.graph[0])
    assert (encoding.qtype.bits, encoding.qtype.signed, encoding.axis) == (bits, signed, 0 if channels else None)
    assert integers.astype(int).tolist() == [[0, 1], [2, 3], [4, 5]]
    (expected,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {})
    np.testing.assert_array_equal(encoding.dequantize(integers), np.asarray(expected))
    np.testing.assert_array_equal(constant_values(model.graph.outputs[0]), np.asarray(expected))
    assert constant_dequantizer(model.graph.outputs[0]) is model.graph[0]


def test_a_bias_of_32_bits() -> None:
    model = stored(np.array([5, -7, 1]), SCALES, None, ir.DataType.INT32)
    _, encoding = integers_and_encoding(model.graph[0])
    assert str(encoding.qtype) == "s32"
    assert constant_values(model.graph.outputs[0]).tolist() == [2.5, -1.75, 2.0]  # type: ignore[union-attr]


def test_a_computed_tensor_is_no_stored_constant(model_of: ModelOf) -> None:
    arrays = {"s": np.array(0.5, np.float32), "z": np.array(0, np.uint8)}
    text = "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)"
    model = ir.from_proto(model_of("float[2] x", "float[2] y", text, arrays))
    assert constant_dequantizer(model.graph.outputs[0]) is None
    assert constant_values(model.graph.outputs[0]) is None
    with pytest.raises(ValueError, match=r"DequantizeLinear '.*': its inputs are not constants"):
        integers_and_encoding(model.graph[1])


@pytest.mark.parametrize("clip", [True, False])
def test_there_and_back_between_q_and_dq(model_of: ModelOf, clip: bool) -> None:
    arrays = {"s": np.array(0.5, np.float32), "z": np.array(1, np.uint8)}
    arrays |= {"low": np.array(0, np.uint8), "high": np.array(15, np.uint8)} if clip else {}
    middle = "c = Clip(q, low, high) d = DequantizeLinear(c, s, z)" if clip else "d = DequantizeLinear(q, s, z)"
    text = f"q = QuantizeLinear(x, s, z) {middle} y = Relu(d)"
    model = ir.from_proto(model_of("float[2] x", "float[2] y", text, arrays))
    quantize, dequantize = model.graph[0], model.graph[-2]
    assert dequantizers_of(model.graph.inputs[0]) == [dequantize]
    assert quantizer_of(dequantize) is quantize
    assert quantizer_of(model.graph[-1]) is None
    found = quantization_of(quantize)
    assert (found.kind, found.constant, found.axis) == ("u8", False, None)
    assert found.same_scale(quantization_of(dequantize))


def test_a_transposed_weight_keeps_its_channels(model_of: ModelOf) -> None:
    arrays = {"w": np.ones((2, 3), np.int8), "s": SCALES[:2], "z": np.zeros(2, np.int8)}
    text = "d = DequantizeLinear <axis = 0> (w, s, z) t = Transpose <perm = [1, 0]> (d) y = MatMul(x, t)"
    model = ir.from_proto(model_of("float[1,3] x", "float[1,2] y", text, arrays))
    found = dequantization_of(model.graph[-1].inputs[1])
    assert found is not None
    assert (found.kind, found.axis, found.constant) == ("s8", 1, True)
    assert dequantization_of(model.graph.inputs[0]) is None
