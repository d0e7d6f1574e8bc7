"""Rounding in closed form: what it gains, what it makes up for, and that the file holds it."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from dfq_deploy import Preprocess, Samples, calibrate, synthesize
from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.options import widths_of
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.refinement.closed_form.layers import FACTORS, ClosedForm, Moments, solved
from dfq_deploy.refinement.reconstruction import reconstruct
from dfq_deploy.targets.catalog import find_target

PIXELS = Preprocess(mean=(0.305,), std=(0.319,))
WIDE = QuantType(16, signed=True, symmetric=True)


def _moments(exact: torch.Tensor, quantized: torch.Tensor) -> Moments:
    found = Moments.zeros(1, exact.shape[1])
    found.add(exact[None], quantized[None])
    return found


def _encoding(rows: int) -> Encoding:
    return Encoding(np.full(rows, 1e-3, np.float32), np.zeros(rows, np.int32), WIDE, 0)


def test_weights_make_up_for_what_the_layers_before_left() -> None:
    """The input has half its size and another mean: weights twice as large and a shift bring the output back."""
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(4000, 5, generator=generator).double() + 1
    quantized = exact / 2 + 0.3
    weight = torch.randn(1, 3, 5, generator=generator)
    found, shift, _ = solved(weight, _moments(exact, quantized), _encoding(3), centred=True)
    wanted, given = exact @ weight[0].double().T, quantized @ found[0].double().T + shift.double()
    torch.testing.assert_close(given.mean(0), wanted.mean(0), atol=1e-4, rtol=1e-4)
    gain = (found / weight).mean()
    assert 1.5 < gain < 2  # pulled towards the float weights
    assert (given - wanted).var(0).max() < 0.1 * wanted.var(0).min()


def test_without_a_bias_the_means_count() -> None:
    exact = torch.ones(100, 2).double()
    exact[:, 1] += torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    weight = torch.tensor([[[0.5, -0.25]]])
    moments = _moments(exact, exact)
    for centred in (False, True):
        found, shift, _ = solved(weight, moments, _encoding(1), centred=centred)
        torch.testing.assert_close(found, weight, atol=2e-3, rtol=0)
        assert shift.abs().max() < 2e-3


def test_weights_lie_on_the_grid_of_their_new_scales(digits_bn: Path) -> None:
    prepared = prepare(load(digits_bn), find_target("cpu"), Bits(3, 8))
    samples = synthesize(digits_bn, synth="procedural", count=16, preprocess=PIXELS, seed=0)
    first = encode(prepared, find_plugin("calibrators", "mse")(), samples, PIXELS).encodings
    before = {name: _values(prepared.model, name) for name in prepared.placement.weights}
    found = reconstruct(prepared.model, prepared.placement, first, samples, learner=ClosedForm)
    ratios = np.concatenate([np.atleast_1d(found[name].scale / first[name].scale) for name in before])
    assert {round(float(ratio), 2) for ratio in ratios} <= {1.0, *FACTORS}
    assert {round(float(ratio), 2) for ratio in ratios} > {1.0}
    for name, old in before.items():
        new = _values(prepared.model, name)
        np.testing.assert_allclose(found[name].fake_quantize(new), new, rtol=1e-5, atol=1e-7)
        assert (new != first[name].fake_quantize(old)).any()


@pytest.mark.parametrize("bits", ["w3a8", "w4a8"])
def test_it_brings_the_file_nearer_to_the_float_model(digits_bn: Path, tmp_path: Path, bits: str) -> None:
    samples, held = (
        synthesize(digits_bn, synth="procedural", count=64, preprocess=PIXELS, seed=seed) for seed in (0, 1)
    )
    wanted = _run(digits_bn, held)
    errors = {}
    for refine in ("bias", "closed-form"):
        out = tmp_path / refine
        calibrate(digits_bn, data=samples, bits=bits, preprocess=PIXELS, refine=(refine,), floor="none", output=out)
        errors[refine] = float(np.square(_run(out / "model.qdq.onnx", held) - wanted).mean())
    assert errors["closed-form"] < 0.7 * errors["bias"]


def test_weights_in_fp8_are_left_to_their_own_grid(digits_bn: Path) -> None:
    bits = widths_of("fp8")
    assert isinstance(bits, Bits)
    prepared = prepare(load(digits_bn), find_target("tensorrt"), bits)
    samples = synthesize(digits_bn, synth="procedural", count=16, preprocess=PIXELS, seed=0)
    first = encode(prepared, find_plugin("calibrators", "mse")(), samples, PIXELS).encodings
    before = {name: _values(prepared.model, name) for name in prepared.placement.weights}
    found = reconstruct(prepared.model, prepared.placement, first, samples, learner=ClosedForm)
    assert before
    for name, old in before.items():
        np.testing.assert_array_equal(_values(prepared.model, name), old)
        assert found[name] is first[name]


def _values(model: ir.Model, name: str) -> np.ndarray:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return np.array(tensor.numpy())


def _run(model: Path, samples: Samples) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores: np.ndarray = session.run(None, {"image": samples.images})[0]
    return scores
