"""Channels of weights: their ranges, and which are zero."""

import numpy as np

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.evaluation.weight_channels import weight_channels
from dfq_deploy.graph.loading import load
from tests.conftest import ModelOf

BYTES = QuantType(8, signed=True, symmetric=True)

WEIGHT = np.array([[0.0, 0.0], [1.0, -4.0], [0.5, 1.0], [0.001, 0.0], [-2.0, 1.0]], np.float32)


def test_dead_channels_and_those_that_rounding_loses(model_of: ModelOf) -> None:
    second = np.eye(5, dtype=np.float32)
    model = load(
        model_of(
            "float[n,2] x", "float[n,5] y", "h = Gemm<transB=1>(x, w) y = MatMul(h, v)", {"w": WEIGHT, "v": second}
        )
    )
    encodings = {
        "w": Encoding.of_bounds(np.asarray(-4.0), np.asarray(4.0), BYTES, None),
        "v": Encoding.of_bounds(second.min(axis=0), second.max(axis=0), BYTES, 1),
    }
    found = {entry.name: entry for entry in weight_channels(model, encodings, ["w", "v"])}
    first = found["w"]
    assert (first.operator, first.channels, first.scales) == ("Gemm", 5, 1)
    assert (first.dead, first.vanished) == ((0,), (3,))
    np.testing.assert_allclose(
        first.magnitudes, np.quantile([4.0, 1.0, 0.001, 2.0], [0, 0.25, 0.5, 0.75, 1]), rtol=1e-6
    )
    assert first.spread == 4.0 / 1.5
    assert first.low == (0.0, -4.0, 0.0, 0.0, -2.0)
    assert first.high == (0.0, 1.0, 1.0, 0.001, 1.0)
    assert (found["v"].channels, found["v"].scales, found["v"].vanished) == (5, 5, ())
    assert first.to_json()["dead_channels"] == [0]


def test_with_a_scale_for_each_channel_none_is_lost(model_of: ModelOf) -> None:
    model = load(model_of("float[n,2] x", "float[n,5] y", "y = Gemm<transB=1>(x, w)", {"w": WEIGHT}))
    encoding = Encoding.of_bounds(WEIGHT.min(axis=1), WEIGHT.max(axis=1), BYTES, 0)
    (only,) = weight_channels(model, {"w": encoding}, ["w"])
    assert (only.dead, only.vanished) == ((0,), ())


def test_all_zeros(model_of: ModelOf) -> None:
    model = load(model_of("float[n,2] x", "float[n,5] y", "y = Gemm<transB=1>(x, w)", {"w": 0 * WEIGHT}))
    encoding = Encoding.of_bounds(np.asarray(0.0), np.asarray(0.0), BYTES, None)
    (only,) = weight_channels(model, {"w": encoding}, ["w"])
    assert (only.dead, only.spread) == ((0, 1, 2, 3, 4), 1.0)
    assert weight_channels(model, {"w": encoding}, []) == ()
