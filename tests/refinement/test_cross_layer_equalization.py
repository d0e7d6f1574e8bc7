"""Equalization: the function stays, the ranges of neighbors become equal, and Clips keep their meaning."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.refinement.cross_layer_equalization import equalize, pairs_of
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(0, 1, (16, 3, 8, 8)).astype(np.float32)
UNEVEN = np.array([1, 0.01, 3, 0.2], np.float32)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def run(model: ir.Model, images: NDArray[Any]) -> NDArray[np.float32]:
    session = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": images})[0]
    return result


def weight(model: ir.Model, name: str) -> NDArray[np.float32]:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return np.asarray(tensor.numpy())


def test_ranges_become_equal_and_the_function_stays(model_of: ModelOf) -> None:
    first = normal(4, 3, 3, 3) * UNEVEN.reshape(-1, 1, 1, 1)
    body = "a = Conv(x, w, b)\n r = Relu(a)\n y = Conv(r, v)"
    constants = {"w": first, "b": np.zeros(4, np.float32), "v": normal(5, 4, 1, 1)}
    model = load(model_of("float[n,3,8,8] x", "float[n,5,6,6] y", body, constants))
    wanted = run(model, IMAGES)
    moved = equalize(model, Samples(IMAGES[:8]))
    assert max(moved.values()) > 2
    np.testing.assert_allclose(run(model, IMAGES), wanted, rtol=0, atol=1e-5)
    ranges = [np.abs(weight(model, "w")).max((1, 2, 3)), np.abs(weight(model, "v")).max((0, 2, 3))]
    spread = [np.abs(first).max((1, 2, 3)).std(), ranges[0].std()]
    assert spread[1] < 0.6 * spread[0]
    # Equal where neither activations nor biases would have grown beyond the largest: for the channel that was largest.
    np.testing.assert_allclose(ranges[0][2], ranges[1][2], rtol=1e-3)


def test_a_depthwise_layer_takes_part(model_of: ModelOf) -> None:
    body = "a = Conv(x, w)\n r = Relu(a)\n d = Conv <group = 4> (r, v)\n s = Relu(d)\n y = Conv(s, u)"
    middle = normal(4, 1, 3, 3) * UNEVEN.reshape(-1, 1, 1, 1)
    constants = {"w": normal(4, 3, 1, 1), "v": middle, "u": normal(2, 4, 1, 1)}
    model = load(model_of("float[n,3,8,8] x", "float[n,2,6,6] y", body, constants))
    assert len(pairs_of(model)) == 2
    wanted = run(model, IMAGES)
    equalize(model, Samples(IMAGES[:8]))
    assert not np.allclose(weight(model, "v"), middle)
    np.testing.assert_allclose(run(model, IMAGES), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("bound", [0.5, 50.0])
def test_a_clip_keeps_its_meaning(model_of: ModelOf, bound: float) -> None:
    body = "a = Conv(x, w)\n r = Clip(a, low, high)\n y = Conv(r, v)"
    first = normal(4, 3, 1, 1) * UNEVEN.reshape(-1, 1, 1, 1)
    constants = {
        "w": first,
        "v": normal(2, 4, 1, 1),
        "low": np.float32(0),
        "high": np.float32(bound),
    }
    model = load(model_of("float[n,3,8,8] x", "float[n,2,8,8] y", body, constants))
    wanted = run(model, IMAGES)
    moved = equalize(model, Samples(IMAGES))
    assert max(moved.values()) > 1.1
    np.testing.assert_allclose(run(model, IMAGES), wanted, rtol=0, atol=1e-5)
    reached = np.abs(run(load(model_of("float[n,3,8,8] x", "float[n,4,8,8] y", "y = Conv(x, w)", constants)), IMAGES))
    saturated = reached.max((0, 2, 3)) > bound
    np.testing.assert_array_equal(weight(model, "w")[saturated], first[saturated])


@pytest.mark.parametrize(
    "body",
    [
        "a = Conv(x, w)\n r = Sigmoid(a)\n y = Conv(r, v)",  # not homogeneous
        "a = Conv(x, w)\n r = Relu(a)\n z = Conv(r, v)\n k = ReduceMax(r)\n y = Add(z, k)",  # read twice
        "a = Conv(x, w)\n r = Relu(a)\n z = Conv(r, v)\n q = Relu(z)\n y = Conv(q, v)",  # one weight for two layers
    ],
)
def test_what_cannot_trade_is_left_alone(model_of: ModelOf, body: str) -> None:
    constants = {"w": normal(4, 3, 1, 1), "v": normal(4, 4, 1, 1)}
    model = load(model_of("float[n,3,8,8] x", "float[n,4,8,8] y", body, constants))
    assert pairs_of(model) == []


def test_token_ids_are_fed_as_what_they_are(model_of: ModelOf) -> None:
    body = "e = Gather(t, x)\n f = Flatten(e)\n a = Gemm(f, w, b)\n r = Relu(a)\n y = Gemm(r, v, c)"
    constants = {
        "t": normal(10, 4), "w": normal(12, 4) * UNEVEN, "b": np.zeros(4, np.float32), "v": normal(4, 5),
        "c": np.zeros(5, np.float32),
    }  # fmt: skip
    model = load(model_of("int64[n,3] x", "float[n,5] y", body, constants))
    tokens = RNG.integers(0, 10, (8, 3))
    wanted = run(model, tokens)
    assert max(equalize(model, Samples(tokens.astype(np.float32))).values()) > 2
    np.testing.assert_allclose(run(model, tokens), wanted, rtol=0, atol=1e-5)
