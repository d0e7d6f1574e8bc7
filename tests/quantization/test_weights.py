"""Encodings of weights, against numbers worked out by hand."""

import numpy as np
import onnx_ir as ir
import pytest

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.quantization.weights import (
    encoding_of_weight,
    extremes,
    least_squares,
    raise_scale_for_bias,
    raise_scale_for_sums,
)
from dfq_deploy.runtime.processor import neighbor_sums

S8 = QuantType(8, signed=True, symmetric=True)
U8 = QuantType(8, signed=False, symmetric=False)

WEIGHT = np.array([[1.0, -12.7], [2.54, 0.0], [0.0, 0.0]], np.float32)


def test_each_channel_has_its_own_scale() -> None:
    encoding = encoding_of_weight(WEIGHT[:2], S8, 0)
    np.testing.assert_allclose(encoding.scale, [0.1, 0.02], rtol=1e-6)
    assert encoding.axis == 0
    assert not encoding.zero_point.any()


def test_the_channel_axis_may_be_the_last() -> None:
    np.testing.assert_allclose(encoding_of_weight(WEIGHT[:2].T, S8, 1).scale, [0.1, 0.02], rtol=1e-6)


def test_per_tensor_covers_all_channels() -> None:
    encoding = encoding_of_weight(WEIGHT, S8, None)
    assert encoding.scale.shape == ()
    assert float(encoding.scale) == pytest.approx(0.1, rel=1e-6)


def test_an_empty_channel_takes_the_smallest_scale_so_that_its_bias_stays_precise() -> None:
    np.testing.assert_allclose(encoding_of_weight(WEIGHT, S8, 0).scale, [0.1, 0.02, 0.02], rtol=1e-6)


def test_bounds_can_clip() -> None:
    encoding = encoding_of_weight(WEIGHT[:2], S8, 0, lambda rows, qtype: (-np.full(2, 1.27), np.full(2, 1.27)))
    np.testing.assert_allclose(encoding.scale, [0.01, 0.01], rtol=1e-6)


def test_least_squares_clips_what_costs_less_than_it_gains() -> None:
    two = QuantType(2, signed=True, symmetric=True)  # the integers -1, 0, 1: one step is the bound
    rows = np.array([[1.0, 0.5, 0.5, 0.5, 0.5], [1.0, 1.0, -1.0, 1.0, 0.0]])
    low, high = least_squares(rows, two)
    # Row 1: the best step s minimises (1 - s)^2 + 4 (0.5 - s)^2, so s = 3/5. Row 2 is exact at its extremes.
    np.testing.assert_allclose(high, [0.6, 1.0], atol=1e-9)
    np.testing.assert_allclose(low, [0.3, -1.0], atol=1e-9)


def test_least_squares_is_never_worse_than_extremes() -> None:
    rows = np.random.default_rng(0).standard_t(3, (16, 64))
    for bits in (2, 3, 4, 8):
        qtype = QuantType(bits, signed=True, symmetric=True)
        errors = [
            np.square(Encoding.of_bounds(*bounds(rows, qtype), qtype, 0).fake_quantize(rows) - rows).sum(1)
            for bounds in (least_squares, extremes)
        ]
        assert (errors[0] <= errors[1] + 1e-9).all()
        assert bits > 4 or errors[0].sum() < 0.9 * errors[1].sum()


@pytest.mark.parametrize("axis", [0, None])
def test_room_is_made_where_the_bias_would_overflow(axis: int | None) -> None:
    weight = Encoding.of_bounds(
        np.full(() if axis is None else 3, -1e-9), np.full(() if axis is None else 3, 1e-9), S8, axis
    )
    activation = Encoding.of_range(Range(0.0, 2.55), U8)
    bias = np.array([0.0, 1e-12, -1.0], np.float32)
    raised = raise_scale_for_bias(weight, bias, activation)
    steps = bias / (0.01 * raised.scale.astype(np.float64))
    assert abs(steps).max() == pytest.approx(2**30, rel=1e-6)
    if axis == 0:
        np.testing.assert_array_equal(raised.scale[:2], weight.scale[:2])


def test_nothing_changes_where_the_bias_fits() -> None:
    weight = Encoding.of_bounds(-np.ones(2), np.ones(2), S8, 0)
    activation = Encoding.of_range(Range(0.0, 2.55), U8)
    assert raise_scale_for_bias(weight, np.array([100.0, -3.0], np.float32), activation) is weight


def product(**attributes: int) -> ir.Node:
    return ir.node("Gemm", [ir.Value(name="x"), ir.Value(name="w")], attributes)


@pytest.mark.parametrize("axis", [1, None])
def test_scales_are_raised_until_no_sum_of_neighbors_saturates(axis: int | None) -> None:
    weight = np.random.default_rng(0).standard_t(3, (31, 200)).astype(np.float32)
    encoding = encoding_of_weight(weight, S8, axis)
    raised = raise_scale_for_sums(encoding, weight, product())
    sums, before = (neighbor_sums(product(), form.quantize(weight)) for form in (raised, encoding))
    assert sums is not None
    assert before is not None
    assert sums.max() in (127, 128)
    assert before.max() > 128
    kept = before <= 126  # a sum of 127 or 128 may be rounded up from less, or down from more
    if axis is not None:
        np.testing.assert_array_equal(raised.scale[kept], encoding.scale[kept])
        assert (raised.scale[before > 128] > encoding.scale[before > 128]).all()
        assert (raised.scale <= 2.01 * encoding.scale).all()


def test_neighbors_of_other_signs_keep_the_scale() -> None:
    weight = np.array([[1.0, -1.0, 0.5, 0.4, -0.5, 1.0]], np.float32)
    encoding = encoding_of_weight(weight, S8, 0)
    assert raise_scale_for_sums(encoding, weight, product(transB=1)) is encoding
    raised = raise_scale_for_sums(encoding, np.abs(weight), product(transB=1))
    np.testing.assert_allclose(raised.scale, [2 / 127], rtol=1e-6)


@pytest.mark.parametrize("qtype", [QuantType(7, signed=True, symmetric=True), U8])
def test_types_whose_sums_do_not_saturate_keep_the_scale(qtype: QuantType) -> None:
    weight = np.ones((1, 4), np.float32)
    encoding = encoding_of_weight(weight, qtype, 0)
    assert raise_scale_for_sums(encoding, weight, product(transB=1)) is encoding
