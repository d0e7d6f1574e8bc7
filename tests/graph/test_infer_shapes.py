"""Types and shapes that ONNX's own inference leaves out or gets wrong."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

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
