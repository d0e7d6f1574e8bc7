"""Names that are free."""

import onnx
import onnx_ir as ir

from dfq_deploy.graph.editing import Names

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
