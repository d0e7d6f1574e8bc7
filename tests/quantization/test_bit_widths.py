"""Bit widths: the text, and which tensor gets which width."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from dfq_deploy import calibrate
from dfq_deploy.errors import OptionError
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.bit_widths import Bits, with_bits
from dfq_deploy.quantization.encode import prepare
from dfq_deploy.quantization.placement.place import place
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]

CHAIN = """
    p = Conv(x, w1)
    q = Relu(p)
    r = MaxPool <kernel_shape = [1, 1]> (q)
    s = Conv(r, w2)
    t = Relu(s)
    u = Conv(t, w3)
"""


def widths(model_of: ModelOf, bits: Bits) -> tuple[dict[str, int], dict[str, int]]:
    weights = {name: np.ones((4, 4, 1, 1), np.float32) for name in ("w1", "w2", "w3")}
    model = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] u", CHAIN, weights))
    placement = with_bits(place(model, find_target("cpu")), model, bits)
    return (
        {name: qtype.bits for name, (qtype, _) in placement.weights.items()},
        {name: qtype.bits for name, qtype in placement.activations.items()},
    )


def test_every_layer_has_the_bits_but_what_none_multiplies_has_eight(model_of: ModelOf) -> None:
    weights, activations = widths(model_of, Bits.parse("w4a3"))
    assert weights == {"w1": 4, "w2": 4, "w3": 4}
    assert activations == {"x": 8, "q": 3, "r": 3, "t": 3, "u": 8}


@pytest.mark.parametrize("pools", [1, 2])
def test_a_file_whose_pooled_tensors_are_narrow_can_be_loaded(model_of: ModelOf, tmp_path: Path, pools: int) -> None:
    """ONNX Runtime has no MaxPool of 4-bit types, and refused to load the file."""
    weights = {name: np.ones((4, 4, 1, 1), np.float32) for name in "uw"}
    pool = "MaxPool <kernel_shape = [2, 2], strides = [2, 2]>"
    nodes = "".join(f"p{index + 1} = {pool} (p{index}) " for index in range(pools))
    text = f"h = Conv(x, u) p0 = Relu(h) {nodes} y = Conv(p{pools}, w)"
    onnx.save(model_of("float[n,4,8,8] x", "float[n,4,a,b] y", text, weights), tmp_path / "m.onnx")
    calibrate(tmp_path / "m.onnx", bits="w4a4", count=8, refine=(), output=tmp_path / "out")
    quantized = onnx.load(tmp_path / "out" / "model.qdq.onnx")
    types = {tensor.name: tensor.data_type for tensor in quantized.graph.initializer}
    points = {node.input[0]: types[node.input[2]] for node in quantized.graph.node if node.op_type == "QuantizeLinear"}
    assert points[f"p{pools}"] == TensorProto.UINT4
    assert {points[f"p{index}"] for index in range(pools)} == {TensorProto.UINT8}


def test_what_a_layer_and_a_sum_read_has_two_widths(model_of: ModelOf) -> None:
    weights = {name: np.ones((4, 4, 1, 1), np.float32) for name in "uvw"}
    nodes = "h = Conv(x, u) r = Relu(h) c = Conv(r, v) a = Add(r, c) y = Conv(a, w)"
    source = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] y", nodes, weights))

    def of(bits: str) -> dict[str, int]:
        activations = prepare(source, find_target("cpu"), Bits.parse(bits)).placement.activations
        return {name: qtype.bits for name, qtype in activations.items()}

    assert of("w4a4") == {"x": 8, "r": 8, "r_narrow": 4, "c": 8, "a": 4, "y": 8}
    assert of("w4a8") == {"x": 8, "r": 8, "c": 8, "a": 8, "y": 8}
    assert of("w8a16") == dict.fromkeys("xrcay", 16)


def test_sixteen_bits_reach_the_input_too(model_of: ModelOf) -> None:
    _, activations = widths(model_of, Bits.parse("W8A16"))
    assert set(activations.values()) == {16}


def test_the_first_and_the_last_layer_may_have_more(model_of: ModelOf) -> None:
    weights, activations = widths(model_of, Bits.parse("w4a4", 8))
    assert weights == {"w1": 8, "w2": 4, "w3": 8}
    assert activations == {"x": 8, "q": 8, "r": 4, "t": 8, "u": 8}


def test_a_layer_may_have_its_own(model_of: ModelOf) -> None:
    bits = Bits(4, 4, layers={"Conv_3": (2, 6)})
    weights, activations = widths(model_of, bits)
    assert weights == {"w1": 4, "w2": 2, "w3": 4}
    assert activations == {"x": 8, "q": 6, "r": 6, "t": 4, "u": 8}  # the MaxPool shares one encoding


def test_a_scale_for_each_channel_is_no_layer(model_of: ModelOf) -> None:
    # What is left of a BatchNormalization behind a residual sum: it must not cost the sum its bits.
    nodes = """
        q = Conv(x, w1)
        s = Conv<group=4>(q, scales)
        t = Relu(s)
        u = Conv(t, w3)
    """
    weights = {name: np.ones((4, 4, 1, 1), np.float32) for name in ("w1", "w3")}
    weights["scales"] = np.ones((4, 1, 1, 1), np.float32)
    model = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] u", nodes, weights))
    placement = with_bits(place(model, find_target("cpu")), model, Bits.parse("w3a3"))
    assert {name: qtype.bits for name, (qtype, _) in placement.weights.items()} == {"w1": 3, "scales": 8, "w3": 3}
    assert {name: placement.activations[name].bits for name in ("q", "t")} == {"q": 8, "t": 3}


@pytest.mark.parametrize(
    ("text", "edge", "message"),
    [
        ("4", None, "bits: '4' is one number; write both, w4a8"),
        ("w4", None, "bits: 'w4' is not of the form w4a8"),
        ("w1a8", None, "weights of 1 bits are not supported; choose 2 to 8"),
        ("w8a12", None, "activations of 12 bits are not supported; choose 2 to 8, or 16"),
        ("w4a4", 9, "edge layers of 9 bits are not supported"),
    ],
)
def test_other_widths_are_refused(text: str, edge: int | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Bits.parse(text, edge)
