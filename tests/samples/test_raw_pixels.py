"""Which networks take pixels from 0 to 255."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.raw_pixels import raw_pixels_reason

Model = Callable[..., onnx.ModelProto]

WEIGHTS = {
    "k": np.random.default_rng(0).normal(size=(6, 3, 3, 3)).astype(np.float32),
    "w": np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32),
    "small": np.float32(1 / 255),
    "large": np.float32(255),
    "half": np.float32(127.5),
    "one": np.float32(1),
    "mean": np.reshape([0.485, 0.456, 0.406], (3, 1, 1)).astype(np.float32),
    "std": np.reshape([0.229, 0.224, 0.225], (3, 1, 1)).astype(np.float32),
    "pixel_mean": np.reshape([103.9, 116.8, 123.7], (3, 1, 1)).astype(np.float32),
    "ones": np.ones(3, np.float32),
    "zeros": np.zeros(3, np.float32),
    "means": np.full(3, 120, np.float32),
    "radiances": np.full(3, 700, np.float32),
    "variances": np.full(3, 4000, np.float32),
}
REST = "c = Conv(f, k) r = Relu(c) p = GlobalAveragePool(r) q = Flatten(p) y = MatMul(q, w)"


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("f = Mul(x, small)", "its graph divides the input by about 255"),
        ("f = Div(x, large)", "its graph divides the input by about 255"),
        ("a = Mul(small, x) b = Sub(a, mean) f = Div(b, std)", "its graph divides the input by about 57.4"),
        ("a = Div(x, half) f = Sub(a, one)", "its graph divides the input by about 128"),
        ("f = Sub(x, pixel_mean)", "its graph subtracts up to 124 from the input"),
        ("f = BatchNormalization(x, ones, zeros, means, variances)", "its graph divides the input by about 63.2"),
        ("f = BatchNormalization(x, ones, zeros, radiances, variances)", None),
        ("a = Sub(x, mean) f = Div(a, std)", None),
        ("f = Sub(one, x)", None),
        ("f = Identity(x)", None),
        ("f = Relu(x)", None),
    ],
)
def test_normalization_inside_the_graph(model_of: Model, nodes: str, reason: str | None) -> None:
    model = load(model_of("float[n,3,8,8] x", "float[n,5] y", f"{nodes} {REST}", WEIGHTS))
    assert raw_pixels_reason(model) == reason


def test_the_first_batch_normalization_tells_pixels(digits_bn: Path) -> None:
    assert raw_pixels_reason(load(digits_bn)) is None
    model = onnx.load(digits_bn)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(entry for entry in model.graph.initializer if entry.name == conv.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) / 80, weight.name))
    # Now its inputs are 80 times as large; they are not moved, so their mean stays about 0.
    reason = raw_pixels_reason(load(model))
    assert reason is None or reason.startswith("its first BatchNormalization expects a mean of ")
