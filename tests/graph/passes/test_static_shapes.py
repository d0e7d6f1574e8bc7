"""Closing what is open for runtimes of static shapes."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.passes.static_shapes import fix_batch

ModelOf = Callable[..., onnx.ModelProto]


def fixed(proto: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    model = ir.from_proto(proto)
    fix_batch(model, batch)
    return ir.to_proto(model)


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def test_everything_that_hangs_on_the_batch_is_fixed_with_it(model_of: ModelOf) -> None:
    nodes = "s = Shape(x) f = Gather(s, zero) n = Unsqueeze(f, zeros) t = Concat<axis = 0>(n, rest) y = Reshape(x, t)"
    constants = {
        "zero": np.array(0, np.int64),
        "zeros": np.array([0], np.int64),
        "rest": np.array([3, 4], np.int64),
    }
    model = model_of("float[n,12] x", "float[n,3,4] y", nodes, constants)
    found = fixed(model, 2)
    assert [node.op_type for node in found.graph.node] == ["Reshape"]
    assert (dims(found.graph.input[0]), dims(found.graph.output[0])) == ([2, 12], [2, 3, 4])
    data = np.arange(24, dtype=np.float32).reshape(2, 12)
    session = ort.InferenceSession(found.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": data})[0], data.reshape(2, 3, 4))
    assert dims(model.graph.input[0]) == ["n", 12]


def test_a_batch_that_the_model_fixes_stays(model_of: ModelOf) -> None:
    found = fixed(model_of("float[3,5] x", "float[3,5] y", "y = Relu(x)", {}), 1)
    assert dims(found.graph.input[0]) == [3, 5]


def test_weights_that_are_stored_as_integers_stay_so(model_of: ModelOf) -> None:
    weights = {"q": np.ones((2, 2), np.int8), "s": np.array(0.5, np.float32), "z": np.array(0, np.int8)}
    nodes = "w = DequantizeLinear(q, s, z) p = MatMul(x, w) t = Shape(x) y = Reshape(p, t)"
    found = fixed(model_of("float[n,2] x", "float[n,2] y", nodes, weights), 1)
    assert [node.op_type for node in found.graph.node] == ["DequantizeLinear", "MatMul", "Reshape"]
    assert {tensor.name for tensor in found.graph.initializer} == {"q", "s", "z", "t"}


def test_sizes_beyond_the_batch_are_asked_for(model_of: ModelOf) -> None:
    model = model_of("float[n,3,side,side] x", "float[n,3,side,side] y", "y = Relu(x)", {})
    with pytest.raises(ModelError, match=r"input 'x': shape \(1, 3, side, side\) is open.*--input-shape x:1,3,224,224"):
        fixed(model, 1)


def test_a_batch_of_minus_one_is_open(model_of: ModelOf) -> None:
    model = model_of("float[n,3] x", "float[n,3] y", "a = Relu(x) y = Abs(a)", {})
    # As Paddle2ONNX writes it: the size, not the name, of the dimension.
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    found = fixed(onnx.shape_inference.infer_shapes(model), 2)
    values = (*found.graph.input, *found.graph.value_info)
    assert [dims(value) for value in values] == [[2, 3], [2, 3]]
