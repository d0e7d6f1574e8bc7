"""Types and shapes that ONNX's own inference leaves out or gets wrong."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper, numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from tests.conftest import ModelOf


def test_a_sequence_inside_the_graph_stays_one(model_of: ModelOf) -> None:
    nodes = "h = MatMul(x, w) s = SplitToSequence <axis = 1> (h) y = ConcatFromSequence <axis = 1> (s)"
    model = load(model_of("float[n,6] x", "float[n,4] y", nodes, {"w": np.ones((6, 4), np.float32)}))
    sequence = next(node for node in model.graph if node.op_type == "SplitToSequence").outputs[0]
    assert sequence.type == ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))
    session = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": np.ones((2, 6), np.float32)})[0], np.full((2, 4), 6))


def test_a_normalization_of_groups_keeps_its_shape(model_of: ModelOf) -> None:
    proto = model_of(
        "float[n,4,5,6] x", "float[n,4,5,6] y", "g = GroupNormalization <num_groups = 2> (x, s, s) y = Mish(g)",
        {"s": np.ones(4, np.float32)},
    )  # fmt: skip
    proto.opset_import[0].version = 21
    normalization = next(iter(load(proto).graph))
    assert normalization.outputs[0].dtype == ir.DataType.FLOAT
    assert [str(dim) for dim in normalization.outputs[0].shape or ()] == ["n", "4", "5", "6"]
    assert len(normalization.inputs) == 3


def test_the_sums_of_a_fused_transformer_have_shapes() -> None:
    """As onnxruntime.transformers.optimizer writes them: no shape beside an operator that ONNX does not know."""
    rng, norm = np.random.default_rng(0), ["x", "s"]
    weights = {name: rng.normal(0, 0.3, (8, 8)).astype(np.float32) for name in "uv"} | {"s": np.ones(8, np.float32)}

    def skip(first: str, second: str, index: int) -> onnx.NodeProto:
        outputs = [f"n{index}", "", "", f"r{index}"]
        return helper.make_node(
            "SkipLayerNormalization", [first, second, "s", "s"], outputs, f"skip{index}", domain="com.microsoft"
        )

    nodes = [
        helper.make_node("LayerNormalization", norm, ["a"]),
        skip("x", "a", 0),
        helper.make_node("MatMul", ["n0", "u"], ["m0"]),
        helper.make_node("FastGelu", ["m0", "s"], ["g0"], domain="com.microsoft"),
        skip("r0", "g0", 1),
        skip("n1", "r1", 2),
        helper.make_node("MatMul", ["r2", "v"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    value = helper.make_tensor_value_info("x", 1, ["n", "t", 8]), helper.make_tensor_value_info("y", 1, ["n", "t", 8])
    graph = helper.make_graph(nodes, "g", [value[0]], [value[1]], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model = load(proto)
    values = [value for node in model.graph for value in node.outputs if value.name]
    assert {str(value.name): [str(dim) for dim in value.shape or ()] for value in values} == {
        str(value.name): ["n", "t", "8"] for value in values
    }
    assert {value.dtype for value in values} == {ir.DataType.FLOAT}
    given = {node.name: [str(value.name) for value in node.inputs if value] for node in model.graph}
    assert (given["skip0"], given["skip1"], given["skip2"]) == (
        ["x", "a", "s", "s"], ["r0", "g0", "s", "s"], ["n1", "r1", "s", "s"],
    )  # fmt: skip
    feeds = {"x": rng.normal(size=(2, 3, 8)).astype(np.float32)}
    before, after = (
        ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for file in (proto.SerializeToString(), to_bytes(model))
    )
    np.testing.assert_allclose(before, after, atol=1e-5)
