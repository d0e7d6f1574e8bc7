"""Scale and zero-point arithmetic against hand-worked numbers and ONNX Runtime's own operators."""

import json

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.encodings import Encoding, QuantType, Range, channel_shape

U8 = QuantType(8, signed=False, symmetric=False)
S8 = QuantType(8, signed=True, symmetric=False)
S8_SYMMETRIC = QuantType(8, signed=True, symmetric=True)
U8_SYMMETRIC = QuantType(8, signed=False, symmetric=True)
U16 = QuantType(16, signed=False, symmetric=False)
STORED = {"u8": np.uint8, "s8": np.int8, "u16": np.uint16}


def runtime_round_trip(
    values: NDArray[np.float32], encoding: Encoding
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Integers and values that ONNX Runtime's QuantizeLinear and DequantizeLinear give."""
    stored = STORED[str(encoding.qtype)]
    axis = 1 if encoding.axis is None else encoding.axis  # 1 is the operators' default; a scalar scale ignores it
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=axis),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis),
        ],
        "round-trip",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(values.shape))],
        [
            helper.make_tensor_value_info("q", helper.np_dtype_to_tensor_dtype(np.dtype(stored)), list(values.shape)),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, list(values.shape)),
        ],
        [
            numpy_helper.from_array(encoding.scale, "scale"),
            numpy_helper.from_array(encoding.zero_point.astype(stored), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    integers, floats = session.run(None, {"x": values})
    return integers.astype(np.int32), floats


def test_integer_limits() -> None:
    limits = {
        (8, False, False): (0, 255),
        (8, True, False): (-128, 127),
        (8, True, True): (-127, 127),
        (4, True, True): (-7, 7),
        (4, False, False): (0, 15),
        (16, False, False): (0, 65535),
        (32, True, True): (-2147483647, 2147483647),
    }
    for (bits, signed, symmetric), expected in limits.items():
        qtype = QuantType(bits, signed, symmetric)
        assert (qtype.qmin, qtype.qmax) == expected


@pytest.mark.parametrize("bits", [1, 17, 31, 33])
def test_width_that_no_runtime_has(bits: int) -> None:
    with pytest.raises(ValueError, match=rf"QuantType: bits={bits} is outside 2\.\.16"):
        QuantType(bits, signed=True, symmetric=True)


@pytest.mark.parametrize(
    ("span", "qtype", "scale", "zero_point"),
    [
        (Range(0, 25.5), U8, 0.1, 0),
        (Range(-12.8, 12.7), U8, 0.1, 128),
        (Range(-12.8, 12.7), S8, 0.1, 0),
        (Range(-1, 4.1), U8, 0.02, 50),
        (Range(2, 5.1), U8, 0.02, 0),  # zero is added below
        (Range(-5.1, -2), U8, 0.02, 255),  # and above
        (Range(-5.1, -2), S8, 0.02, 127),
        (Range(-1, 2.54), S8_SYMMETRIC, 0.02, 0),
        (Range(-2.54, 1), S8_SYMMETRIC, 0.02, 0),
        (Range(-2.54, 1), U8_SYMMETRIC, 0.02, 128),
        (Range(-3, 3.5535), U16, 0.0001, 30000),
        (Range(0, 0), U8, 1, 0),
        (Range(0, 1e-45), U8, 1, 0),
    ],
)
def test_encoding_of_a_range_worked_by_hand(span: Range, qtype: QuantType, scale: float, zero_point: int) -> None:
    encoding = Encoding.of_range(span, qtype)
    assert encoding.scale == pytest.approx(scale, rel=1e-6)
    assert encoding.scale.dtype == np.float32
    assert encoding.zero_point == zero_point
    assert encoding.axis is None


def test_zero_is_exact_whatever_the_range() -> None:
    rng = np.random.default_rng(0)
    for low, high in rng.normal(0, 3, (200, 2)):
        span = Range(min(low, high), max(low, high))
        for qtype in (U8, S8, S8_SYMMETRIC, U8_SYMMETRIC, QuantType(4, signed=False, symmetric=False)):
            assert Encoding.of_range(span, qtype).fake_quantize(np.zeros(1, np.float32)) == 0


def test_round_half_to_even_and_saturation_by_hand() -> None:
    encoding = Encoding(np.asarray(0.5, np.float32), np.asarray(10, np.int32), U8)
    values = np.array([0.25, 0.75, 1.25, -0.25, -5.0, -99.0, 122.5, 999.0, np.inf], np.float32)
    assert encoding.quantize(values).tolist() == [10, 12, 12, 10, 0, 0, 255, 255, 255]
    assert encoding.fake_quantize(values).tolist() == [0, 1, 1, 0, -5, -5, 122.5, 122.5, 122.5]


def test_per_channel_by_hand() -> None:
    weights = np.array([[1.27, -0.5], [0.0, 0.0], [-12.7, 3.0]], np.float32)
    encoding = Encoding.of_bounds(weights.min(1), weights.max(1), S8_SYMMETRIC, 0)
    assert encoding.scale == pytest.approx([0.01, 1, 0.1])
    assert encoding.quantize(weights).tolist() == [[127, -50], [0, 0], [-127, 30]]


@pytest.mark.parametrize("qtype", [U8, S8, U16])
@pytest.mark.parametrize("span", [Range(-1.3, 2.9), Range(0, 6), Range(-4, 0), Range(-1e-4, 3e4)])
def test_as_onnx_runtime_does_per_tensor(qtype: QuantType, span: Range) -> None:
    encoding = Encoding.of_range(span, qtype)
    rng = np.random.default_rng(1)
    width = span.high - span.low
    ties = (np.arange(-20, 20) + 0.5) * encoding.scale
    values = np.concatenate(
        [rng.uniform(span.low - width, span.high + width, 4000), ties, [span.low, span.high, 0, 3e38, -3e38]]
    ).astype(np.float32)
    integers, floats = runtime_round_trip(values, encoding)
    np.testing.assert_array_equal(encoding.quantize(values), integers)
    np.testing.assert_array_equal(encoding.fake_quantize(values), floats)


@pytest.mark.parametrize("axis", [0, 1])
def test_as_onnx_runtime_does_per_channel(axis: int) -> None:
    weights = np.random.default_rng(2).normal(0, 1, (5, 4, 3, 3)).astype(np.float32)
    others = tuple(set(range(4)) - {axis})
    encoding = Encoding.of_bounds(weights.min(others), weights.max(others), S8_SYMMETRIC, axis)
    integers, floats = runtime_round_trip(weights, encoding)
    np.testing.assert_array_equal(encoding.quantize(weights), integers)
    np.testing.assert_array_equal(encoding.fake_quantize(weights), floats)


def test_range_that_the_integers_hold() -> None:
    assert Encoding.of_range(Range(-1, 4.1), U8).range.low == pytest.approx(-1)
    assert Encoding.of_range(Range(-1, 4.1), U8).range.high == pytest.approx(4.1)
    channels = Encoding.of_bounds(np.array([-1.27, -2.54]), np.array([0.5, 0.1]), S8_SYMMETRIC, 0)
    assert channels.range.low == pytest.approx(-2.54)
    assert channels.range.high == pytest.approx(2.54)


def test_json_round_trip_is_exact() -> None:
    tensor = Encoding.of_range(Range(-0.1, 0.7), U8)
    channels = Encoding.of_bounds(np.array([-0.3, -1.0, 0.0]), np.array([0.1, 7.0, 0.0]), S8_SYMMETRIC, 1)
    for encoding in (tensor, channels):
        back = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
        np.testing.assert_array_equal(back.scale, encoding.scale, strict=True)
        np.testing.assert_array_equal(back.zero_point, encoding.zero_point, strict=True)
        assert (back.qtype, back.axis) == (encoding.qtype, encoding.axis)


def test_json_is_plain() -> None:
    assert Encoding.of_range(Range(0, 63.75), U8).to_json() == {
        "bits": 8,
        "signed": False,
        "symmetric": False,
        "axis": None,
        "scale": 0.25,
        "zero_point": 0,
    }


def test_encodings_that_make_no_sense() -> None:
    one, two = np.ones(1, np.float32), np.ones(2, np.float32)
    with pytest.raises(ValueError, match=r"scale \(2,\), zero point \(1,\) and axis 0 disagree"):
        Encoding(two, np.zeros(1, np.int32), U8, 0)
    with pytest.raises(ValueError, match="axis None disagree"):
        Encoding(one, np.zeros(1, np.int32), U8)
    with pytest.raises(ValueError, match="scale must be finite and positive"):
        Encoding(np.zeros(1, np.float32), np.zeros(1, np.int32), U8, 0)
    with pytest.raises(ValueError, match="scale must be finite and positive"):
        Encoding(np.full(1, np.nan, np.float32), np.zeros(1, np.int32), U8, 0)


@pytest.mark.parametrize(("low", "high"), [(1, 0), (np.nan, 1), (0, np.inf)])
def test_ranges_that_make_no_sense(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="is not finite and ascending"):
        Range(low, high)


def test_union_of_ranges() -> None:
    assert Range(-1, 2).union(Range(0, 5)) == Range(-1, 5)
    assert Range(3, 4).union(Range(-2, -1)) == Range(-2, 4)


def test_channels_are_broadcast_along_their_axis() -> None:
    assert channel_shape(4, 1) == channel_shape(4, -3) == (1, -1, 1, 1)
    assert channel_shape(2, -1) == (1, -1)
    assert channel_shape(3, None) == (1, 1, 1)
    values = np.ones((2, 3, 4)) * np.arange(3).reshape(channel_shape(3, 1))
    assert values[:, 2].tolist() == np.full((2, 4), 2).tolist()
    with pytest.raises(ValueError, match="axis 2 is not one of 2"):
        channel_shape(2, 2)
