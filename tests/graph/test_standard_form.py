"""Files that ONNX Runtime reads and the ONNX checker refuses."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy import load
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.loading import load_notes
from dfq_deploy.graph.reading import read_any
from tests.conftest import TinyModel

WEIGHT = np.diag([1.0, 2.0, 0.0]).astype(np.float32)
X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


def _model(nodes: list[onnx.NodeProto], domain: str = "") -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(WEIGHT, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, 17)], ir_version=8)


def _nodes() -> list[onnx.NodeProto]:
    return [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]


def _run(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": X})[0]
    return result


def _loaded(model: onnx.ModelProto) -> NDArray[np.float32]:
    return _run(ir.to_proto(load(model)))


EXPECTED = np.maximum(X @ WEIGHT, 0)


def test_the_default_domain_may_be_spelled_out() -> None:
    model = _model(_nodes(), "ai.onnx")
    for node in model.graph.node:
        node.domain = "ai.onnx"
    np.testing.assert_allclose(_loaded(model), EXPECTED, rtol=1e-6)


def test_nodes_may_come_in_any_order() -> None:
    np.testing.assert_allclose(_loaded(_model(_nodes()[::-1])), EXPECTED, rtol=1e-6)


def test_nodes_of_inner_graphs_and_those_they_depend_on_are_sorted() -> None:
    inner = helper.make_graph(
        [helper.make_node("Relu", ["n"], ["z"]), helper.make_node("Neg", ["m"], ["n"])],
        "inner",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Less", ["zero", "one"], ["yes"]),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
    ]
    model = _model(nodes)
    for name, value in (("zero", 0.0), ("one", 1.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    np.testing.assert_allclose(_loaded(model), np.maximum(-(X @ WEIGHT), 0), rtol=1e-6)


def test_a_cycle_is_named() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], name="first"), helper.make_node("Relu", ["a"], ["b"])]
    with pytest.raises(ModelError, match="the model: Add 'first' depends on its own output; export the model again"):
        load(_model([*nodes, helper.make_node("Relu", ["b"], ["y"])]))


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers_are_read(flat: bool) -> None:
    model = _model(_nodes())
    del model.graph.initializer[:]
    places = np.array([0, 4]) if flat else np.array([[0, 0], [1, 1]])
    values = numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "w")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(places, "w_places"), [3, 3])
    )
    np.testing.assert_allclose(_loaded(model), EXPECTED, rtol=1e-6)


def test_a_giant_sparse_initializer_is_refused_before_memory_is_taken() -> None:
    model = _model(_nodes())
    del model.graph.initializer[:]
    values = numpy_helper.from_array(np.array([1.0], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0]), "w_places"), [2**40, 2**20])
    model.graph.sparse_initializer.append(sparse)
    with pytest.raises(ModelError, match=r"sparse initializer 'w' of shape .* is too large for a dense one"):
        load(model)


def test_dimensions_that_are_called_none_are_not_the_same() -> None:
    model = _model([helper.make_node("Relu", ["x"], ["y"])])
    for value in (*model.graph.input, *model.graph.output):
        del value.type.tensor_type.shape.dim[:]
        for name in ("None", "None"):
            value.type.tensor_type.shape.dim.add().dim_param = name
    loaded = load(model, input_shapes={"x": (1, 7)})
    assert list(loaded.graph.inputs[0].shape or ())[1] == 7


def test_batch_normalization_in_training_mode_is_said_and_computed_as_after_eval() -> None:
    ones, half = np.ones(3, np.float32), np.full(3, 0.5, np.float32)
    node = helper.make_node(
        "BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "rm", "rv"], training_mode=1, name="bn"
    )
    model = _model([node])
    for name, array in (("s", ones), ("b", half), ("m", half), ("v", ones * 4)):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    loaded = load(model)
    (note,) = load_notes(loaded)
    assert note.startswith("1 BatchNormalization node(s) are in training mode ('bn' first): the model was exported")
    np.testing.assert_allclose(_run(ir.to_proto(loaded)), (X - 0.5) / np.sqrt(4 + 1e-5) + 0.5, rtol=1e-5)


def test_a_negative_size_is_open(tiny: TinyModel) -> None:
    model = tiny(batch=-1, size="?")
    shape = load(model).graph.inputs[0].shape
    assert shape is not None
    assert shape[1] == 3
    assert not any(isinstance(shape[axis], int) for axis in (0, 2, 3))


def test_a_cycle_is_refused_where_a_file_is_read_as_it_is() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) { y = Add(x, z)  z = Relu(y) }'
    )
    with pytest.raises(ModelError, match="the model: Add '' depends on its own output"):
        read_any(model)
