"""One small tensor for each cause."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.quantization.weights import encoding_of_weight
from dfq_deploy.verdict.noise.causes import Cause, cause_of_activation, cause_of_weight, relative_noise

U8, U4 = (QuantType(bits, signed=False, symmetric=False) for bits in (8, 4))
S8, S4 = (QuantType(bits, signed=True, symmetric=True) for bits in (8, 4))
RNG = np.random.default_rng(0)
EVEN = RNG.uniform(-1, 1, (16, 500)).astype(np.float32)


def snug(rows: NDArray[np.float32], qtype: QuantType = U8, factor: float = 1.0) -> Encoding:
    return Encoding.of_range(Range(float(rows.min()) * factor, float(rows.max()) * factor), qtype)


def test_noise_by_hand() -> None:
    encoding = Encoding(np.asarray(1, np.float32), np.asarray(0, np.int32), U8)
    assert relative_noise(np.array([[1.25, 3.0]], np.float32), encoding) == pytest.approx(0.25**2 / (1.25**2 + 9))


def test_an_even_tensor_is_ordinary() -> None:
    cause = cause_of_activation("t", EVEN, snug(EVEN))
    assert (cause.kind, cause.part) == ("ordinary", 0.0)
    assert "'t' is rounded as 8 bits do" in cause.sentence


def test_clipping() -> None:
    cause = cause_of_activation("t", EVEN, snug(EVEN, factor=0.9))
    assert cause.kind == "clipping"
    assert cause.part > 0.9
    assert "9.7 % of the values of 't' lie outside its range [-0.896, 0.903]" in cause.sentence


def test_what_readers_do_not_tell_apart_is_not_clipped() -> None:
    encoding = Encoding.of_range(Range(0, 1), U8)
    assert cause_of_activation("t", EVEN, encoding).kind == "clipping"
    assert cause_of_activation("t", EVEN, encoding, limits=(0.0, np.inf)).kind == "ordinary"


def test_a_range_behind_pooling() -> None:
    pooled = EVEN[:, :8]
    assert cause_of_activation("gate", pooled, snug(EVEN, factor=4), role="pooled").kind == "pooled-gate"
    narrow = cause_of_activation("gate", pooled, snug(EVEN, factor=0.5), role="pooled")
    assert narrow.kind == "pooled-gate"
    assert "one value for each sample and channel" in narrow.sentence
    assert cause_of_activation("gate", pooled, snug(pooled), role="pooled").kind == "ordinary"


def test_a_wide_range() -> None:
    cause = cause_of_activation("t", EVEN, snug(EVEN, factor=3))
    assert cause.kind == "wide-range"
    assert "3 times as coarse" in cause.sentence


def test_few_bits() -> None:
    cause = cause_of_activation("t", EVEN, snug(EVEN, U4))
    assert (cause.kind, cause.sentence) == ("few-bits", "'t' has 4 bits")
    assert cause.part == pytest.approx(1 - 1 / 256)


def test_one_channel_stands_out() -> None:
    rows = EVEN.copy()
    rows[3] *= 30
    cause = cause_of_activation("t", rows, snug(rows))
    assert cause.kind == "outlier-channel"
    assert cause.sentence.startswith("channel 3 of 't' is 29.8 times")
    rows[3] /= 3
    assert cause_of_activation("t", rows, snug(rows, U4)).kind == "outlier-channel"


def test_channels_of_many_sizes() -> None:
    rows = EVEN * np.geomspace(0.01, 10, 16)[:, None].astype(np.float32)
    cause = cause_of_activation("t", rows, snug(rows))
    assert cause.kind == "channel-spread"
    assert "reach from 0.01 to 10" in cause.sentence


def test_boxes_beside_scores() -> None:
    rows = EVEN * np.array([600] * 4 + [1] * 12, np.float32)[:, None]
    cause = cause_of_activation("heads", rows, snug(rows), role="mixed")
    assert cause.kind == "mixed-scales"
    assert "values up to 1 with others up to 6e+02" in cause.sentence
    assert cause_of_activation("heads", EVEN, snug(EVEN), role="mixed").kind == "ordinary"


def test_probabilities() -> None:
    scores = RNG.normal(0, 3, (400, 64))
    rows = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    cause = cause_of_activation(
        "attention", rows.astype(np.float32), Encoding.of_range(Range(0, 1), U8), role="softmax"
    )
    assert cause.kind == "softmax"
    assert "become zero" in cause.sentence


def test_a_hard_swish() -> None:
    values = RNG.laplace(0, 2, (16, 4000))
    rows = (values * np.clip(values / 6 + 0.5, 0, 1)).astype(np.float32)
    cause = cause_of_activation("t", rows, snug(rows), role="hard-swish")
    assert cause.kind == "hard-swish"
    assert "HardSwish" in cause.sentence


def test_few_large_values() -> None:
    rows = RNG.uniform(-1, 1, (2, 800_000)).astype(np.float32)
    assert cause_of_activation("t", rows, snug(rows)).kind == "ordinary"
    rows[:, 0], rows[:, 1] = 4, -4
    cause = cause_of_activation("t", rows, snug(rows))
    assert cause.kind == "outlier-values"
    assert "99 % are within 0.99" in cause.sentence


def weight_cause(weight: NDArray[np.float32], qtype: QuantType, axis: int | None, *, depthwise: bool = False) -> Cause:
    return cause_of_weight("w", weight, encoding_of_weight(weight, qtype, axis), 0, depthwise=depthwise)


def test_channels_of_a_weight_at_one_scale() -> None:
    weight = RNG.uniform(-1, 1, (16, 8, 3, 3)).astype(np.float32)
    spread = weight * np.geomspace(0.01, 3, 16).reshape(-1, 1, 1, 1).astype(np.float32)
    assert weight_cause(weight, S8, None).kind == "ordinary"
    assert weight_cause(spread, S8, None).kind == "channel-spread"
    assert weight_cause(spread, S8, 0).kind == "ordinary"
    weight[5] *= 40
    assert weight_cause(weight, S8, None).kind == "outlier-channel"


def test_few_bits_of_a_weight() -> None:
    weight = RNG.uniform(-1, 1, (16, 8, 3, 3)).astype(np.float32)
    assert weight_cause(weight, S4, 0).sentence == "weight 'w' has 4 bits"


def test_a_depthwise_weight_has_few_values() -> None:
    weight = RNG.uniform(-1, 1, (16, 1, 3, 3)).astype(np.float32)
    cause = weight_cause(weight, S8, 0, depthwise=True)
    assert (cause.kind, "9 values for each channel" in cause.sentence) == ("depthwise", True)
    assert "4 bits and 9 values" in weight_cause(weight, S4, 0, depthwise=True).sentence
