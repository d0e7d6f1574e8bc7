"""Channels of a weight that changed places, were shifted, or were rescaled together with their bias."""

import numpy as np
import onnx_ir as ir
import pytest

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.evaluation import weight_checks
from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.qdq_pairs import WeightPair
from dfq_deploy.evaluation.scale_check import ScaleCheck
from dfq_deploy.quantization.weights import encoding_of_weight

rng = np.random.default_rng(0)


def only_check(exact: np.ndarray, values: np.ndarray, bits: int) -> ScaleCheck:
    """The check of the weight of a Gemm that has a scale for each row, all of the same range."""
    channels, ends = len(exact), np.full(len(exact), 4.0)
    encoding = Encoding.of_bounds(-ends, ends, QuantType(bits, signed=True, symmetric=True), 0)
    node = ir.node("Gemm", [ir.val("x"), ir.val("w")], {"transB": 1}, name="fc")
    pair = WeightPair("w", node, 1, 0, values, encoding, exact)
    empty = FloatWeights(ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 17}), ir_version=8))
    quantized = ir.Model(ir.Graph([], [], nodes=[node], opset_imports={"": 17}), ir_version=8)
    (check,), _ = weight_checks.weight_checks(empty, quantized, [pair])
    assert channels == encoding.scale.size
    return check


@pytest.mark.parametrize(("tried", "said"), [(1, ""), (64, "channel 1 holds what float has in channel 2")])
def test_only_so_many_channels_are_looked_for(tried: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channel 0 is like none, and the two behind it changed places."""
    monkeypatch.setattr(weight_checks, "TRIED", tried)
    exact = rng.normal(size=(8, 32)).astype(np.float32)
    values = exact[[0, 2, 1, 3, 4, 5, 6, 7]]
    values[0] = rng.normal(size=32)
    check = only_check(exact, values, bits=8)
    assert check.is_fault
    assert check.detail == said


def test_channels_that_are_alike_by_chance_did_not_change_places() -> None:
    """Of many small kernels with positive values some are like any other positive values."""
    exact = np.abs(rng.normal(1.5, 0.5, size=(600, 9))).astype(np.float32)
    values = np.rint(exact * (7 / 4)).astype(np.float32) * np.float32(4 / 7)
    values[4] = np.abs(rng.normal(1.5, 0.5, size=9))
    units = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    likeness = units @ values[4] / np.linalg.norm(values[4])
    assert likeness.argmax() != 4
    assert likeness.max() > weight_checks.SAME > likeness[4]
    check = only_check(exact, values, bits=4)
    assert check.is_fault
    assert check.node == "Gemm 'fc', channel 4,"
    assert not check.detail


def test_the_zero_point_of_one_channel() -> None:
    """The errors of a channel with another zero point are all alike; those of other values are not."""
    exact = rng.normal(size=(8, 32)).astype(np.float32)
    step = np.float32(8 / 254)
    values = np.rint(exact / step) * step
    shifted, other = values.copy(), values.copy()
    shifted[3] += 9 * step
    other[3] += rng.normal(9 * step, 5 * step, size=32).astype(np.float32)
    check = only_check(exact, shifted, bits=8)
    assert (check.cause, check.detail) == ("zero point", "is 0, where float's values need about 9")
    check = only_check(exact, other, bits=8)
    assert check.node == "Gemm 'fc', channel 3,"
    assert check.is_fault
    assert check.cause != "zero point"


@pytest.mark.parametrize("factor", [1.16, 1.035])
def test_a_few_channels_that_are_rescaled_with_their_bias_beside_dead_ones(factor: float) -> None:
    """Equalization moves one channel, and rounding leaves nothing of another one, which tells nothing of the file."""
    exact, bias = rng.normal(size=(24, 16, 1, 1)).astype(np.float32), rng.normal(1.0, 0.1, 24).astype(np.float32)
    exact[5] *= 1e-4
    values, moved = exact.copy(), bias.copy()
    values[5], values[2] = 0.0, values[2] * np.float32(factor)
    models = []
    for weight, added in ((exact, bias), (values, moved)):
        held = [ir.val(name, const_value=ir.tensor(array, name=name)) for name, array in (("w", weight), ("b", added))]
        x = ir.val("x", ir.DataType.FLOAT, [1, 16, 4, 4])
        node = ir.node("Conv", [x, *held], name="conv")
        node.outputs[0].name = "y"
        graph = ir.Graph([x], node.outputs, nodes=[node], initializers=held, opset_imports={"": 17})
        models.append(ir.Model(graph, ir_version=8))
    encoding = encoding_of_weight(values, QuantType(8, signed=True, symmetric=True), 0)
    node = models[1].graph[0]
    rounded = encoding.fake_quantize(values)
    pair = WeightPair("w", node, 1, 0, rounded, encoding, None)
    held_bias = node.inputs[2]
    assert held_bias is not None
    for own, expected in ((1.0, True), (factor, False)):
        moved[2] = bias[2] * np.float32(own)
        held_bias.const_value = ir.tensor(moved.copy(), name="b")
        (check,), _ = weight_checks.weight_checks(FloatWeights(models[0]), models[1], [pair])
        assert check.is_fault == expected
