"""What a range clips matters as far as the functions that read it tell the values apart."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.evaluation.flat_readers import excess_behind
from dfq_deploy.evaluation.scale_check import FAULT
from dfq_deploy.evaluation.scale_checks import scale_checks
from dfq_deploy.graph.loading import load, load_quantized
from dfq_deploy.samples.samples import Samples

rng = np.random.default_rng(0)

READERS: dict[str, list[onnx.NodeProto]] = {
    "sigmoid": [helper.make_node("Sigmoid", ["a"], ["y"])],
    "swish": [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["y"])],
    "scaled": [helper.make_node("Mul", ["a", "one"], ["m"]), helper.make_node("Sigmoid", ["m"], ["y"])],
    "relu": [helper.make_node("Relu", ["a"], ["y"])],
    "both": [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Add", ["a", "s"], ["p"]),
             helper.make_node("Concat", ["p", "a"], ["y"], axis=1)],
}  # fmt: skip


def model(readers: str, quantized: tuple[float, int] | None = None) -> onnx.ModelProto:
    """A Conv that takes its input as it is, and what reads it."""
    held = {"w": np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1), "one": np.ones((), np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], name="conv"), *READERS[readers]]
    if quantized is not None:
        held |= {"scale": np.asarray(quantized[0], np.float32), "zero": np.asarray(quantized[1], np.uint8)}
        nodes[1:] = [
            helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["a_q"]),
            helper.make_node("DequantizeLinear", ["a_q", "scale", "zero"], ["a_d"]),
            *(onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes[1:]),
        ]
        for node in nodes[3:]:
            node.input[:] = ["a_d" if name == "a" else name for name in node.input]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, 8, 8])
        for name, channels in (("x", 4), ("y", 8 if readers == "both" else 4))
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def low(count: int) -> np.ndarray:
    """Values of which most lie where a Sigmoid is flat."""
    values = np.where(rng.random((count, 4, 8, 8)) < 0.9, rng.normal(-10.4, 0.2, (count, 4, 8, 8)), -3.9)
    values[0, 0, 0, 0] = 0.0
    return values.astype(np.float32)


@pytest.mark.parametrize("readers", ["sigmoid", "swish", "scaled"])
def test_a_range_that_ends_where_its_readers_are_flat_is_no_fault(readers: str) -> None:
    samples = Samples(low(8))
    clipped = scale_checks(load(model(readers)), load_quantized(model(readers, (9 / 255, 255))), samples)
    assert not [check for check in clipped if check.is_fault]
    ruined = scale_checks(load(model(readers)), load_quantized(model(readers, (2 / 255, 255))), samples)
    assert [check.tensor for check in ruined if check.is_fault] == ["a"]
    coarse = scale_checks(load(model(readers)), load_quantized(model(readers, (8 * 10.6 / 255, 255))), samples)
    assert [check.tensor for check in coarse if check.is_fault] == ["a"]


def test_other_readers_tell_all_values_apart() -> None:
    rows = low(1).reshape(4, -1)
    for readers in ("relu", "both"):
        value = load(model(readers)).graph[0].outputs[0]
        assert excess_behind(value, rows, rows, rows, 8) is None


def test_noise_behind_a_sigmoid() -> None:
    value = load(model("sigmoid")).graph[0].outputs[0]
    rows = low(1).reshape(4, -1)
    flat = excess_behind(value, rows, np.maximum(rows, -9.0), rows, 8)
    steep = excess_behind(value, rows, np.maximum(rows, -2.0), rows, 8)
    assert flat is not None
    assert steep is not None
    assert flat < 0
    errors = 1 / (1 + np.exp(-np.maximum(rows, -2.0).astype(float))) - 1 / (1 + np.exp(-rows.astype(float)))
    by_hand = 10 * np.log10(np.square(errors).mean() / ((1 / 255) ** 2 / 12))
    assert steep == pytest.approx(by_hand, abs=0.01)
    assert steep > FAULT


def test_values_at_the_end_of_a_range_do_not_make_another_range_a_fault() -> None:
    """A range that ends where a swish is flat keeps all values there as they are; a little further, it rounds them."""
    samples = Samples(np.where(low(8) < -9, -20.0, low(8)).astype(np.float32))
    (check,) = scale_checks(load(model("swish")), load_quantized(model("swish", (6.9 / 255, 255))), samples)
    assert check.excess < FAULT / 2
