"""Scales and shifts behind convolutions folded into weights: the function stays the same."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.graph.passes.fold_affine import fold_affine
from dfq_deploy.graph.writing import to_bytes
from tests.graph.passes.test_fold_batch_norm import normal, outputs

Constants = dict[str, NDArray[np.float32]]


def model_of(nodes: list[onnx.NodeProto], constants: Constants, written: str = "y") -> ir.Model:
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info(written, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return ir.from_proto(onnx.shape_inference.infer_shapes(made))


def conv_then(*steps: tuple[str, str, bool], constants: Constants, bias: bool = True) -> ir.Model:
    """A 1x1 convolution of 4 to 6 channels, then operators with a constant on the right, or on the left."""
    held = {"w": normal(1, 6, 4, 1, 1), **({"b": normal(2, 6)} if bias else {}), **constants}
    nodes, value = [helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["c"], name="conv")], "c"
    for place, (operator, constant, left) in enumerate(steps):
        written = "y" if place == len(steps) - 1 else f"t{place}"
        inputs = [constant, value] if left else [value, constant]
        nodes.append(helper.make_node(operator, inputs, [written], name=f"step{place}"))
        value = written
    return model_of(nodes, held)


CASES = {
    "scale and shift of one number": conv_then(
        ("Mul", "s", True), ("Add", "t", False), constants={"s": normal(3, 1), "t": normal(4, 1)}
    ),
    "bias of each channel, no bias before": conv_then(
        ("Add", "t", False), constants={"t": normal(3, 1, 6, 1, 1)}, bias=False
    ),
    "division": conv_then(("Div", "s", False), constants={"s": normal(3, 6, 1, 1)}),
    "difference from a constant": conv_then(("Sub", "t", True), constants={"t": normal(3, 6, 1, 1)}),
    "difference": conv_then(("Sub", "t", False), constants={"t": normal(3, 1)}, bias=False),
}


@pytest.mark.parametrize("name", CASES)
def test_the_function_is_kept_and_the_operator_gone(name: str) -> None:
    model, feeds = CASES[name], {"x": normal(9, 1, 4, 6, 6)}
    wanted = outputs(model, feeds)
    folded = model.clone()
    fold_affine(folded)
    assert [node.op_type for node in folded.graph] == ["Conv"]
    assert folded.graph.outputs[0].name == "y"
    for given, expected in zip(outputs(folded, feeds), wanted, strict=True):
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    assert wanted[0].tolist() == outputs(model, feeds)[0].tolist(), "the original was changed"


@pytest.mark.parametrize(
    ("name", "kept"),
    {
        "a constant of each place": conv_then(("Add", "t", False), constants={"t": normal(3, 1, 1, 6, 6)}),
        "a reciprocal": conv_then(("Div", "s", True), constants={"s": normal(3, 1)}),
        "division by zero": conv_then(("Div", "s", False), constants={"s": np.zeros(1, np.float32)}),
    }.items(),
)
def test_what_is_no_scale_or_shift_of_channels_stays(name: str, kept: ir.Model) -> None:
    assert fold_affine(kept) == (), name
    assert len(kept.graph) == 2


def test_a_second_reader_keeps_the_scale_apart() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Mul", ["c", "s"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    model = model_of(nodes, {"w": normal(1, 6, 4, 1, 1), "s": normal(2, 1)})
    assert fold_affine(model) == ()
    assert to_bytes(model)
