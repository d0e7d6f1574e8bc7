"""Zero Pads in front of convolutions and pooling."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_pads import fold_pads

Node = tuple[str, dict[str, Any]]

CONV: Node = ("Conv", {"kernel_shape": [3, 3], "strides": [2, 2]})
PADS = [0, 0, 0, 1, 0, 0, 1, 2]


def _model(
    reader: Node, pads: list[int] = PADS, value: float | None = None, before: str = "Relu", mode: str = "constant"
) -> onnx.ModelProto:
    """x -> ``before`` -> Pad -> ``reader``."""
    kind, attributes = reader
    constants = [numpy_helper.from_array(np.array(pads), "pads")]
    weight = np.random.default_rng(0).standard_normal((4, 3 + pads[1], 3, 3)).astype(np.float32)
    fill = [] if value is None else ["fill"]
    constants += [numpy_helper.from_array(np.array(value, np.float32), "fill")] if value is not None else []
    constants += [numpy_helper.from_array(weight, "weight")] if kind == "Conv" else []
    nodes = [
        helper.make_node(before, ["x"], ["a"]),
        helper.make_node("Pad", ["a", "pads", *fill], ["p"], mode=mode),
        helper.make_node(kind, ["p", "weight"] if kind == "Conv" else ["p"], ["y"], **attributes),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y",)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 9, 8])]
    graph = helper.make_graph(nodes, "g", inputs, shapes, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    # Its own optimizer folds Pads too, and into a pooling operator that the runtime then refuses.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return result


def _folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    loaded = load(model)
    folded = fold_pads(loaded)
    return ir.to_proto(loaded), folded


X = np.random.default_rng(1).standard_normal((2, 3, 9, 8)).astype(np.float32)


@pytest.mark.parametrize(
    "reader",
    [
        CONV,
        ("Conv", {"kernel_shape": [3, 3], "pads": [1, 0, 0, 1]}),
        ("Conv", {"kernel_shape": [3, 3], "auto_pad": "VALID"}),
        ("AveragePool", {"kernel_shape": [3, 3]}),
        ("AveragePool", {"kernel_shape": [4, 4], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ],
    ids=str,
)
def test_the_reader_pads_itself_and_says_the_same(reader: Node) -> None:
    model = _model(reader)
    after, folded = _folded(model)
    assert len(folded) == 1
    assert Counter(node.op_type for node in after.graph.node)["Pad"] == 0
    np.testing.assert_allclose(_run(after, X), _run(model, X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("reader", "options"),
    [
        (CONV, {"value": 1.0}),
        (CONV, {"mode": "edge"}),
        (CONV, {"pads": [0, 1, 0, 0, 0, 0, 0, 0]}),
        (CONV, {"pads": [0, 0, -1, 0, 0, 0, 0, 0]}),
        (("Conv", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"}), {}),
        (("AveragePool", {"kernel_shape": [4, 4], "pads": [1, 1, 1, 1]}), {}),
        (("AveragePool", {"kernel_shape": [2, 2]}), {}),
        (("AveragePool", {"kernel_shape": [3, 3], "ceil_mode": 1, "strides": [2, 2]}), {}),
        (("MaxPool", {"kernel_shape": [3, 3]}), {"before": "Tanh"}),
    ],
    ids=str,
)
def test_a_pad_that_does_more_stays(reader: Node, options: dict[str, Any]) -> None:
    model = _model(reader, **options)
    after, folded = _folded(model)
    assert folded == ()
    np.testing.assert_array_equal(_run(after, X), _run(model, X))


def test_a_pad_that_others_read_too_stays() -> None:
    model = _model(CONV)
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, None))
    assert _folded(model)[1] == ()


@pytest.mark.parametrize(("mode", "folded"), [("constant", ("Pad_1",)), ("reflect", ())])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_a_pad_of_some_axes_pads_all_of_them(mode: str, folded: tuple[str, ...], axes: list[int]) -> None:
    proto = _model(CONV, [1, 0, 1, 2], mode=mode)
    proto.opset_import[0].version = 18
    proto.graph.node[1].input.extend(["", "axes"])
    proto.graph.initializer.append(numpy_helper.from_array(np.array(axes), "axes"))
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(KERNEL, "weight"))
    model, found = _folded(proto)
    assert found == folded
    pads = [node for node in model.graph.node if node.op_type == "Pad"]
    assert all(len([name for name in node.input if name]) == 2 for node in pads)
    np.testing.assert_allclose(_run(model, X), _run(proto, X), rtol=1e-5, atol=1e-5)


KERNEL = np.random.default_rng(2).standard_normal((4, 3, 3, 3)).astype(np.float32)
