"""Names that are free, and constants that are new."""

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from dfq_deploy.graph.editing import Names, add_constant, replace_by_constant

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
graph (float[2] x) => (float[2] y) <float[1] w = {1.0}> { a = Mul(x, w) y = Neg(a) }"""


def test_a_name_in_use_gets_a_number() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    model.graph[0].name = "product"
    names = Names(model.graph)
    taken = ("x", "w", "a", "y", "product")
    assert [names.fresh(name) for name in taken] == ["x_1", "w_1", "a_1", "y_1", "product_1"]


def test_a_name_is_given_once() -> None:
    names = Names(ir.from_proto(onnx.parser.parse_model(TEXT)).graph)
    assert [names.fresh("z") for _ in range(3)] == ["z", "z_1", "z_2"]


def test_a_constant_is_an_initializer_of_the_file() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    add_constant(model.graph, "c", np.array([[1, 2]], np.int64))
    add_constant(model.graph, "n", ir.Tensor(np.array([-8, 7], ir.DataType.INT4.numpy()), ir.DataType.INT4, name="n"))
    stored = {tensor.name: tensor for tensor in ir.to_proto(model).graph.initializer}
    assert onnx.numpy_helper.to_array(stored["c"]).tolist() == [[1, 2]]
    assert stored["n"].data_type == onnx.TensorProto.INT4
    assert onnx.numpy_helper.to_array(stored["n"]).astype(int).tolist() == [-8, 7]
    assert model.graph.initializers["c"].shape == ir.Shape([1, 2])


def test_a_computed_value_becomes_a_constant() -> None:
    model = ir.from_proto(onnx.parser.parse_model(TEXT))
    product = model.graph[0]
    replace_by_constant(model.graph, product.outputs[0], np.array([3, 4], np.float32))
    model.graph.remove(product, safe=True)
    (y,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": np.zeros(2, np.float32)})
    assert np.asarray(y).tolist() == [-3, -4]
    assert "a" in model.graph.initializers
