"""Values of tensors as rows of channels, against NumPy."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from dfq_deploy.evaluation import tensor_values as module
from dfq_deploy.evaluation.tensor_values import channel_axis, tensor_values
from dfq_deploy.graph.loading import load
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]

IMAGES = np.random.default_rng(0).normal(0, 1, (3, 4, 5, 6)).astype(np.float32)


def test_rows_are_channels(model_of: ModelOf) -> None:
    model = load(model_of("float[n,4,5,6] x", "float[n,4,5,6] y", "r = Relu(x) y = Neg(r)", {}))
    found = tensor_values(model, ["x", "r", "nothing"], Samples(IMAGES))
    assert set(found) == {"x", "r"}
    np.testing.assert_array_equal(found["x"], IMAGES.transpose(1, 0, 2, 3).reshape(4, -1))
    np.testing.assert_array_equal(found["r"], np.maximum(IMAGES, 0).transpose(1, 0, 2, 3).reshape(4, -1))
    last = tensor_values(model, ["x"], Samples(IMAGES), {"x": -1})["x"]
    np.testing.assert_array_equal(last, np.moveaxis(IMAGES, -1, 0).reshape(6, -1))


def test_extremes_of_a_large_tensor_are_kept(model_of: ModelOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VALUES", 40)
    model = load(model_of("float[n,4,5,6] x", "float[n,4,5,6] y", "y = Relu(x)", {}))
    rows = tensor_values(model, ["x"], Samples(IMAGES))["x"]
    exact = IMAGES.transpose(1, 0, 2, 3).reshape(4, -1)
    assert rows.shape[1] < exact.shape[1]
    np.testing.assert_array_equal(rows.min(axis=1), exact.min(axis=1))
    np.testing.assert_array_equal(rows.max(axis=1), exact.max(axis=1))


def test_where_channels_are(model_of: ModelOf) -> None:
    weights = {"w": np.ones((6, 2), np.float32)}
    model = load(model_of("float[n,4,5,6] x", "float[n,4,5,2] y", "r = Relu(x) y = MatMul(r, w)", weights))
    values = {value.name: value for node in model.graph for value in node.outputs}
    assert channel_axis(values["r"]) == -1
    assert channel_axis(model.graph.inputs[0]) == 1
