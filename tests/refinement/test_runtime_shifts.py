"""Bias correction in ONNX Runtime against the definition of an encoding, and against the twin."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.query import constant_of
from dfq_deploy.refinement import bias_correction
from dfq_deploy.refinement.bias_correction import correct_biases
from dfq_deploy.refinement.runtime_shifts import InRuntime, RuntimeShifts, is_simulated

ModelOf = Callable[..., onnx.ModelProto]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
@pytest.mark.parametrize(("signed", "symmetric"), [(False, False), (True, False), (True, True)])
def test_activations_are_rounded_as_the_encoding_says(
    model_of: ModelOf, bits: int, signed: bool, symmetric: bool
) -> None:
    model = load(
        model_of(
            "float[n,3] x", "float[n,3] y", "y = Gemm(x, w, b)", {"w": np.eye(3, dtype=np.float32), "b": normal(3)}
        )
    )
    encoding = Encoding.of_range(Range(-0.7, 1.1), QuantType(bits, signed, symmetric))
    rows = normal(64, 3, seed=1)
    runs = RuntimeShifts(model, ["y"], {"x": encoding})
    runs.add({"x": rows}, len(rows))
    wanted = (rows - encoding.fake_quantize(rows)).mean(axis=0)
    np.testing.assert_allclose(runs.shift["y"], wanted, atol=1e-6)
    assert runs.largest()["y"] == pytest.approx(float(np.abs(wanted / rows.std(axis=0)).max()), rel=1e-3)


def test_what_no_integers_hold_is_left_to_the_twin() -> None:
    floating = Encoding(np.ones((), np.float32), np.zeros((), np.int32), QuantType(8, True, True, floating=True))
    assert not is_simulated({"x": floating})
    assert is_simulated({"x": Encoding.of_range(Range(0, 1), QuantType(16, False, False))})


LAYERS = """
c = Conv <pads = [1, 1, 1, 1]> (x, k) r = Relu(c) d = Conv <group = 4> (r, g, b) a = Add(d, c) t = ConvTranspose(a, u)
f = GlobalAveragePool(t) h = Flatten(f) y = Gemm <transB = 1> (h, v)
"""


@pytest.mark.parametrize("batch", ["n", "1"])
def test_it_agrees_with_the_twin_part_by_part(model_of: ModelOf, monkeypatch: pytest.MonkeyPatch, batch: str) -> None:
    shapes = {"k": (4, 3, 3, 3), "g": (4, 1, 1, 1), "b": (4,), "u": (4, 6, 2, 2), "v": (5, 6)}
    weights = {name: normal(*shape, seed=place) for place, (name, shape) in enumerate(shapes.items())}
    text = model_of(f"float[{batch},3,6,6] x", f"float[{batch},5] y", LAYERS, weights)
    kind, weight = QuantType(4, False, False), QuantType(8, True, True)
    encodings = {name: Encoding.of_range(Range(-1, 2), kind) for name in ("x", "r", "d", "a", "t", "f")}
    encodings["k"] = Encoding.of_range(Range(-1, 1), weight)
    images = normal(20, 3, 6, 6, seed=9)
    monkeypatch.setattr(bias_correction, "MEMORY", 8 * 64 * images[0].nbytes)  # parts of 8, 8 and 4
    found = []
    for in_runtime in (True, False):
        monkeypatch.setattr(bias_correction, "is_simulated", lambda _, said=in_runtime: said)
        model = load(text)
        largest = correct_biases(model, encodings, images)
        found.append((_biases(model), largest))
    (ours, our_largest), (twins, their_largest) = found
    assert our_largest == pytest.approx(their_largest, rel=0.02)
    assert ours.keys() == twins.keys() == {"c", "d", "t", "y"}
    for name, bias in twins.items():
        assert np.abs(bias).max() > 1e-3
        np.testing.assert_allclose(ours[name], bias, rtol=1e-3, atol=2e-4)


def _biases(model: ir.Model) -> dict[str, NDArray[np.float32]]:
    found = {node.outputs[0].name: constant_of(node.inputs[2]) for node in model.graph if len(node.inputs) > 2}
    return {str(name): tensor.numpy() for name, tensor in found.items() if tensor is not None}


def test_that_onnx_runtime_fails_on_a_batch_is_not_printed(
    model_of: ModelOf, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes = "r = Reshape(x, sizes) y = MatMul(r, w)"
    weights = {"sizes": np.array([2, 2], np.int64), "w": np.ones((2, 3), np.float32)}
    model = load(model_of("float[n,4] x", "float[2,3] y", nodes, weights))
    with pytest.raises(RuntimeError, match="Reshape"):
        InRuntime(model).run({"x": torch.zeros(2, 4)})
    assert capfd.readouterr().err == ""
