"""Reshapes whose sizes are computed from those of their input."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.copied_sizes import copy_sizes
from dfq_deploy.graph.writing import to_bytes

HEADS = """
    s = Shape(x) b = Gather(s, zero) t = Gather(s, one) d = Gather(s, two) w = Div(d, heads)
    b1 = Unsqueeze(b, first) t1 = Unsqueeze(t, first) w1 = Unsqueeze(w, first)
    shape = Concat <axis = 0> (b1, t1, heads1, w1)
"""

CONSTANTS = """int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 heads = {4}, int64[1] heads1 = {4},
    int64[1] first = {0}, int64[1] last = {-1}, int64[1] middle = {1}, int64[1] end = {2}"""


def _model(nodes: str, shape: str = "n,t,32") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{shape}] x) => (float y) <{CONSTANTS}> {{ {nodes} }}'
    )


def _outputs(source: bytes, array: NDArray[Any]) -> NDArray[Any]:
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    found: NDArray[Any] = session.run(None, {"x": array})[0]
    return found


@pytest.mark.parametrize(
    ("nodes", "wanted"),
    [
        (f"{HEADS} y = Reshape(x, shape)", [0, 0, 4, 8]),
        ("s = Shape(x) h = Slice(s, first, end) shape = Concat <axis = 0> (h, last) y = Reshape(x, shape)", [0, 0, -1]),
        ("s = Shape <start = 0, end = 1> (x) shape = Concat <axis = 0> (s, last) y = Reshape(x, shape)", [0, -1]),
        (f"{HEADS} turned = Concat <axis = 0> (b1, heads1, w1, t1) y = Reshape(x, turned)", [0, 4, 8, -1]),
    ],
)
def test_sizes_of_the_input_are_copied(nodes: str, wanted: list[int]) -> None:
    proto = _model(nodes)
    model = load(proto)
    assert len(copy_sizes(model)) == 1
    assert Counter(node.op_type for node in model.graph) == {"Reshape": 1}
    (shape,) = (value.const_value.numpy().tolist() for value in model.graph.initializers.values() if value.const_value)
    assert shape == wanted
    for sizes in ((1, 3, 32), (2, 5, 32)):
        array = np.random.default_rng(0).random(sizes, np.float32)
        np.testing.assert_array_equal(_outputs(to_bytes(model), array), _outputs(proto.SerializeToString(), array))


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        # Two sizes that are not those of the input at the same place.
        (f"{HEADS} turned = Concat <axis = 0> (t1, b1, heads1, w1) y = Reshape(x, turned)", "n,t,32"),
        # Two dimensions without a name of their own may differ.
        (f"{HEADS} turned = Concat <axis = 0> (t1, b1, heads1, w1) y = Reshape(x, turned)", "None,None,32"),
        # A size that a computation doubles.
        (f"{HEADS} more = Mul(b1, heads1) turned = Concat <axis = 0> (more, t1, w1) y = Reshape(x, turned)", "n,t,32"),
    ],
)
def test_what_is_no_copy_is_computed_or_left(nodes: str, shape: str) -> None:
    proto = _model(nodes, shape)
    model = load(proto)
    copy_sizes(model)
    array = np.random.default_rng(0).random((2, 6, 32), np.float32)
    np.testing.assert_array_equal(_outputs(to_bytes(model), array), _outputs(proto.SerializeToString(), array))


def test_shapes_behind_an_attention_are_copied_too() -> None:
    # The mask brings a name of its own into the scores, so that the shape behind them has unknown sizes at first.
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[n,t,32] x, float[n,1,1,u] mask) => (float y) <{CONSTANTS}, int64[1] w32 = {{32}}> {{
            {HEADS} q = Reshape(x, shape)
            a = Transpose <perm = [0, 2, 1, 3]> (q) k = Transpose <perm = [0, 2, 3, 1]> (q)
            c = MatMul(a, k) l = Add(c, mask) p = Softmax(l) m = MatMul(p, a)
            e = Transpose <perm = [0, 2, 1, 3]> (m)
            back = Concat <axis = 0> (b1, t1, w32) y = Reshape(e, back)
        }}"""
    )
    model = load(proto)
    assert len(copy_sizes(model)) == 2
    assert not {"Shape", "Concat", "Gather"} & {node.op_type for node in model.graph}
    for sizes in ((1, 3, 32), (2, 5, 32)):
        mask = np.zeros((sizes[0], 1, 1, sizes[1]), np.float32)
        feeds = {"x": np.random.default_rng(0).random(sizes, np.float32), "mask": mask}
        files = [to_bytes(model), proto.SerializeToString()]
        pair = [ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, feeds)[0] for file in files]
        np.testing.assert_allclose(pair[0], pair[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("2,n,4", {"Relu": 1, "Abs": 1}),  # two states, whatever the batch
        ("m,n,4", {"Shape": 1, "Gather": 1, "Equal": 1, "If": 1, "Abs": 1}),
    ],
)
def test_an_if_is_decided_by_a_size_that_is_static(shape: str, wanted: dict[str, int]) -> None:
    proto = _model(
        """s = Shape(x) depth = Gather(s, zero) both = Equal(depth, two)
           z = If (both) <
               then_branch = taken () => (float[a, b, c] r) { r = Relu(x) },
               else_branch = other () => (float[d, e, f] q) { q = Neg(x) }>
           y = Abs(z)""",
        shape,
    )
    model = load(proto)
    assert Counter(node.op_type for node in model.graph) == wanted
    assert "s" not in model.graph.initializers
    array = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(_outputs(to_bytes(model), array), _outputs(proto.SerializeToString(), array))
