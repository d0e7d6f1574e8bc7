"""Bias correction: by hand, and on the example's network through ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dfq_deploy import calibrate, synthesize
from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.query import constant_of
from dfq_deploy.refinement.bias_correction import correct_biases

Model = Callable[..., onnx.ModelProto]

WHOLE = Encoding(np.ones((), np.float32), np.zeros((), np.int32), QuantType(8, signed=False, symmetric=False))
"""Rounds to whole numbers from 0 to 255."""

WEIGHT = np.array([[1, 2], [3, -4], [0, 0.5]], np.float32)
BIAS = np.array([10, 20, 30], np.float32)

IMAGES = np.array([[0.4, 1.3], [5.4, 7.3]], np.float32)
"""Rounding takes 0.4 from the first and 0.3 from the second value of each."""

SHIFT = WEIGHT @ np.array([0.4, 0.3], np.float32)


def bias_of(model: ir.Model, output: str) -> np.ndarray:
    (node,) = (node for node in model.graph if node.outputs[0].name == output)
    tensor = constant_of(node.inputs[2])
    assert tensor is not None
    return tensor.numpy()


def test_a_known_shift_is_taken_back(model_of: Model) -> None:
    model = load(model_of("float[n,2] x", "float[n,3] y", "y = Gemm<transB=1>(x, w, b)", {"w": WEIGHT, "b": BIAS}))
    shifts = correct_biases(model, {"x": WHOLE}, IMAGES)
    np.testing.assert_allclose(bias_of(model, "y"), BIAS + SHIFT, rtol=1e-5)
    outputs = IMAGES @ WEIGHT.T + BIAS
    assert shifts["y"] == pytest.approx(np.abs(SHIFT / outputs.std(0)).max(), rel=1e-4)


@pytest.mark.parametrize("failing", ["RuntimeShifts.add", "_opened"])
def test_the_twin_corrects_where_onnx_runtime_fails(
    model_of: Model, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(f"dfq_deploy.refinement.runtime_shifts.{failing}", fail)
    test_a_known_shift_is_taken_back(model_of)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_missing_bias_is_added(model_of: Model, transposed: int) -> None:
    weight = WEIGHT if transposed else np.ascontiguousarray(WEIGHT.T)
    nodes = f"y = Gemm<transB={transposed}>(x, w)"
    model = load(model_of("float[n,2] x", "float[n,3] y", nodes, {"w": weight}))
    correct_biases(model, {"x": WHOLE}, IMAGES)
    np.testing.assert_allclose(bias_of(model, "y"), SHIFT, rtol=1e-5)


def test_a_shared_bias_is_copied(model_of: Model) -> None:
    nodes = "h = Gemm<transB=1>(x, w, b) g = Gemm<transB=1>(x, u, b) y = Add(h, g)"
    weights = {"w": WEIGHT, "u": 2 * WEIGHT, "b": BIAS}
    model = load(model_of("float[n,2] x", "float[n,3] y", nodes, weights))
    correct_biases(model, {"x": WHOLE}, IMAGES)
    np.testing.assert_allclose(bias_of(model, "h"), BIAS + SHIFT, rtol=1e-5)
    np.testing.assert_allclose(bias_of(model, "g"), BIAS + 2 * SHIFT, rtol=1e-5)


@pytest.mark.parametrize("operator", ["Conv<group=2>", "ConvTranspose<group=2>"])
def test_grouped_convolutions_have_the_bias_of_their_output(model_of: Model, operator: str) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (4, 2, 1, 1)).astype(np.float32)
    model = load(model_of("float[n,4,2,2] x", "float[n,m,2,2] y", f"y = {operator}(x, w)", {"w": weight}))
    images = np.full((2, 4, 2, 2), 3.25, np.float32)
    correct_biases(model, {"x": WHOLE}, images)
    # What rounding takes away, a quarter everywhere, through the same operator.
    plain = model_of("float[n,4,2,2] x", "float[n,m,2,2] y", f"y = {operator}(x, w)", {"w": weight})
    session = ort.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": np.full((1, 4, 2, 2), 0.25, np.float32)})[0][0, :, 0, 0]
    np.testing.assert_allclose(bias_of(model, "y"), wanted, rtol=1e-5, atol=1e-6)


def test_each_correction_knows_the_earlier_ones(model_of: Model) -> None:
    """The first layer's shift, once taken back, is not taken back again in the second."""
    one = np.ones((1, 1), np.float32)
    model = load(model_of("float[n,1] x", "float[n,1] y", "h = Gemm(x, w) y = Gemm(h, v)", {"w": one, "v": one * 2}))
    correct_biases(model, {"x": WHOLE}, np.array([[0.4], [3.4]], np.float32))
    assert bias_of(model, "h") == pytest.approx(0.4, rel=1e-5)
    assert bias_of(model, "y") == pytest.approx(0, abs=1e-5)


def test_means_of_the_example_come_back(digits_bn: Path, tmp_path: Path) -> None:
    samples = synthesize(digits_bn, synth="procedural", count=160)
    kept = samples.images[np.arange(160) % 8 != 7]

    def means(path: Path) -> np.ndarray:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        scores: np.ndarray = session.run(["scores"], {"image": kept})[0].mean(0)
        return scores

    distance = []
    for refine in ((), ("bias",)):
        result = calibrate(digits_bn, data=samples, method="minmax", refine=refine, output=tmp_path / str(len(refine)))
        assert result.model_path is not None
        distance.append(np.abs(means(result.model_path) - means(digits_bn)).max())
    assert distance[1] < 0.3 * distance[0]
