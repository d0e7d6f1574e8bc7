"""An output that is an input comes back as it was given."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dfq_deploy import calibrate
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.placement.exact import exact_values

NODES = "c = Conv(x, k) y = Relu(c) i = Identity(x) same = Identity(i) other = Identity(c)"
OUTPUTS = "float[n,4,6,6] y, float[n,3,8,8] same, float[n,4,6,6] other"


@pytest.fixture
def proto(model_of: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    kernel = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    return model_of("float[n,3,8,8] x", OUTPUTS, NODES, {"k": kernel})


def test_only_copies_of_an_input_that_are_outputs(proto: onnx.ModelProto) -> None:
    assert {value.name for value in exact_values(load(proto))} == {"i", "same"}


@pytest.mark.parametrize("target", ["cpu", "openvino", "tensorrt"])
def test_the_input_comes_back_bit_for_bit(proto: onnx.ModelProto, target: str, tmp_path: Path) -> None:
    found = calibrate(proto, synth="procedural", count=16, target=target, output=tmp_path / "out")
    images = found.samples.images
    y, same, _ = ort.InferenceSession(str(found.model_path)).run(None, {"x": images})
    np.testing.assert_array_equal(same, images)
    exact = ort.InferenceSession(proto.SerializeToString()).run(["y"], {"x": images})[0]
    assert 0 < np.abs(y - exact).max() < 0.1 * np.abs(exact).max()  # the rest is quantized
