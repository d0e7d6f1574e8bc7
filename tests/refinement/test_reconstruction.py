"""Reconstruction on the example's network: what it gains, and that the file holds what was learned."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from dfq_deploy import Samples, calibrate, synthesize
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.query import weighted_nodes
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.quantization.fake_quant import bias_encodings, fake_quantizers
from dfq_deploy.refinement.reconstruction import Reconstruction, reconstruct
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.twin.teacher import teacher_of

PIXELS = Preprocess(mean=(0.305,), std=(0.319,))


def samples_of(model: Path, seed: int, count: int = 64) -> Samples:
    return synthesize(model, synth="procedural", count=count, preprocess=PIXELS, seed=seed)


def run(model: Path | bytes, images: np.ndarray) -> np.ndarray:
    source = str(model) if isinstance(model, Path) else model
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    scores: np.ndarray = session.run(None, {"image": images})[0]
    return scores


def test_it_brings_the_file_nearer_to_the_float_model(digits_bn: Path, tmp_path: Path) -> None:
    samples, held = samples_of(digits_bn, 0), samples_of(digits_bn, 1).images
    wanted = run(digits_bn, held)
    errors = {}
    for refine in ((), ("reconstruct",)):
        out = tmp_path / "-".join(("file", *refine))
        calibrate(digits_bn, data=samples, bits="w3a4", preprocess=PIXELS, refine=refine, output=out)
        errors[refine] = np.square(run(out / "model.qdq.onnx", held) - wanted).mean()
    assert errors["reconstruct",] < 0.5 * errors[()]


def test_weights_lie_on_their_grids_and_nothing_moves_farther_than_a_step(digits_bn: Path) -> None:
    prepared = prepare(load(digits_bn), find_target("cpu"), Bits(4, 4))
    samples = samples_of(digits_bn, 0, 16)
    quantized = encode(prepared, find_plugin("calibrators", "mse")(), samples, PIXELS)
    before = {
        name: np.array(prepared.model.graph.initializers[name].const_value.numpy())  # type: ignore[union-attr]
        for name in prepared.placement.weights
    }
    learned = reconstruct(
        prepared.model,
        prepared.placement,
        quantized.encodings,
        samples,
        settings=Reconstruction(iterations=5, samples=16),
    )
    moved = 0
    for name, old in before.items():
        new = prepared.model.graph.initializers[name].const_value.numpy()  # type: ignore[union-attr]
        encoding, first = learned[name], quantized.encodings[name]
        np.testing.assert_allclose(encoding.fake_quantize(new), new, rtol=1e-5, atol=1e-7)
        steps = np.abs(encoding.quantize(new) - first.quantize(old))
        assert steps.max() <= 1
        moved += int(steps.sum())
    assert moved > 0
    assert learned.keys() == quantized.encodings.keys()


def test_the_same_seed_learns_the_same(digits_bn: Path) -> None:
    def weights(seed: int) -> bytes:
        prepared = prepare(load(digits_bn), find_target("cpu"), Bits(4, 4))
        samples = samples_of(digits_bn, 0, 16)
        encodings = encode(prepared, find_plugin("calibrators", "minmax")(), samples, PIXELS).encodings
        how = Reconstruction(iterations=20, samples=16)
        reconstruct(prepared.model, prepared.placement, encodings, samples, settings=how, seed=seed)
        return b"".join(
            value.const_value.tobytes() for value in prepared.model.graph.initializers.values() if value.const_value
        )

    assert weights(3) == weights(3) != weights(4)


def test_the_regularization_sharpens_after_the_warm_up() -> None:
    how = Reconstruction(iterations=100)
    assert how.beta(19) is None
    assert how.beta(20) == 20
    assert how.beta(60) == pytest.approx(11)
    assert how.beta(99) == pytest.approx(2, abs=0.01)


def test_layers_keep_their_means(digits_bn: Path) -> None:
    prepared = prepare(load(digits_bn), find_target("cpu"), Bits(3, 8))
    samples = samples_of(digits_bn, 0)
    encodings = encode(prepared, find_plugin("calibrators", "mse")(), samples, PIXELS).encodings
    exact = prepared.model.clone()
    learned = reconstruct(
        prepared.model, prepared.placement, encodings, samples, settings=Reconstruction(iterations=20, samples=64)
    )
    layers = [str(node.outputs[0].name) for node in weighted_nodes(exact)]
    images = torch.from_numpy(samples.images)
    wanted = teacher_of(exact, {}, "cpu").run({"image": images}, keep=layers)
    hooks = fake_quantizers(learned | bias_encodings(prepared.model, learned))
    given = teacher_of(prepared.model, {}, "cpu").run({"image": images}, keep=layers, hooks=hooks)
    for name in layers:
        axes = [axis for axis in range(wanted[name].ndim) if axis != 1]
        shift = (given[name].mean(axes) - wanted[name].mean(axes)).abs() / wanted[name].std(axes)
        assert shift.max() < 0.02, name


def test_wide_activations_are_never_left_out(digits_bn: Path) -> None:
    def weights(drop: float, bits: Bits) -> bytes:
        prepared = prepare(load(digits_bn), find_target("cpu"), bits)
        samples = samples_of(digits_bn, 0, 16)
        encodings = encode(prepared, find_plugin("calibrators", "minmax")(), samples, PIXELS).encodings
        how = Reconstruction(iterations=20, samples=16, drop=drop)
        reconstruct(prepared.model, prepared.placement, encodings, samples, settings=how)
        return b"".join(
            value.const_value.tobytes() for value in prepared.model.graph.initializers.values() if value.const_value
        )

    assert weights(0.5, Bits(4, 8)) == weights(0, Bits(4, 8))
    assert weights(0.5, Bits(4, 4)) != weights(0, Bits(4, 4))
