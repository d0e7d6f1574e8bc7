"""The student against the file that ONNX Runtime runs, and against the plain fake-quantized twin."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from dfq_deploy.exporters.qdq import Qdq

from dfq_deploy import Samples
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Quantized, encode, prepare
from dfq_deploy.quantization.fake_quant import student_function
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer
from dfq_deploy.quantization.weights import raise_scale_for_bias
from dfq_deploy.refinement.registry import refine_encodings
from dfq_deploy.runtime.processor import neighbor_sums
from dfq_deploy.targets.catalog import find_target

Model = Callable[..., onnx.ModelProto]


def quantized(path: Path, samples: Samples, bits: str, target: str = "cpu") -> Quantized:
    prepared = prepare(load(path), find_target(target), Bits.parse(bits))
    return encode(prepared, find_plugin("calibrators", "minmax")(), samples)


def student_from(start: Quantized) -> QuantizedStudent:
    prepared = start.prepared
    integer = not prepared.target.float_bias
    return QuantizedStudent(prepared.model, prepared.placement, start.encodings, integer_bias=integer)


@pytest.mark.parametrize("bits", ["w8a8", "w4a4", "w3a5"])
def test_it_starts_as_the_quantized_twin(digits_bn: Path, digits: Samples, bits: str) -> None:
    start = quantized(digits_bn, digits, bits)
    images = torch.from_numpy(digits.images[:64])
    with torch.no_grad():
        ours = student_from(start)(images)
        plain = student_function(start.prepared.model, start.encodings, {}, "cpu")(images)
    # Both round to the same grids; one divides by the step and the other multiplies by its inverse.
    assert float((ours - plain).abs().mean()) < 0.02 * float(plain.abs().mean())


@pytest.mark.parametrize(("bits", "target"), [("w4a4", "cpu"), ("w3a3", "cpu"), ("w8a8", "cpu"), ("w4a8", "tensorrt")])
def test_the_file_computes_what_the_student_does(
    digits_bn: Path, digits: Samples, held_out: Samples, tmp_path: Path, bits: str, target: str
) -> None:
    start = quantized(digits_bn, digits, bits, target)
    student = student_from(start)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():  # as if it had learned something
        for name, parameter in student.learned().items():
            size = {"log_step": 0.1, "zero_point": 0.7}.get(name.rpartition(".")[2], 0.3)
            parameter.add_(size * torch.randn(parameter.shape, generator=noise))
        student.constrain()
        found = student(torch.from_numpy(held_out.images)).numpy()
    encodings = student.encodings()
    assert encodings.keys() == start.encodings.keys()
    student.write_back(start.prepared.model)
    path = tmp_path / "model.qdq.onnx"
    Qdq(integer_bias=not start.prepared.target.float_bias).export(start.prepared.model, encodings, path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": held_out.images})[0]
    assert float((found.argmax(1) == expected.argmax(1)).mean()) >= 0.995
    assert float(np.abs(found - expected).mean()) < 0.02 * float(np.abs(expected).mean())


def test_a_bias_that_correction_gives_is_rounded_as_in_the_file(model_of: Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((6, 3, 3, 3)).astype(np.float32)
    nodes = "h = Conv(x, k) r = Relu(h) y = Conv(r, l)"
    weights = {"k": kernel, "l": rng.standard_normal((4, 6, 1, 1)).astype(np.float32)}
    source = load(model_of("float[n,3,8,8] x", "float[n,4,6,6] y", nodes, weights))
    samples = Samples(rng.standard_normal((32, 3, 8, 8)).astype(np.float32))
    start = encode(
        prepare(source, find_target("cpu"), Bits.parse("w3a3")), find_plugin("calibrators", "minmax")(), samples
    )
    start, _ = refine_encodings(start, ("bias",), samples)
    assert start.prepared.placement.biases.keys() == {"h_bias", "y_bias"}
    path = tmp_path / "model.onnx"
    Qdq().export(start.prepared.model, start.encodings, path)
    with torch.no_grad():
        ours = student_from(start)(torch.from_numpy(samples.images)).numpy()
    (theirs,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": samples.images})
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_what_is_learned(digits_bn: Path, digits: Samples) -> None:
    student = student_from(quantized(digits_bn, digits, "w4a4"))
    names = student.learned()
    assert not any("image" in name for name in names)  # the input's range is known
    assert {name.partition(".")[0] for name in names} == {"activations", "weights", "biases"}
    assert any(name.endswith("zero_point") for name in names)  # before an Add values have both signs
    student(torch.from_numpy(digits.images[:8])).square().sum().backward()
    unused = [name for name, parameter in names.items() if parameter.grad is None]
    assert not unused


def test_moved_tensors_and_relus_are_not_quantized_twice(digits_bn: Path, digits: Samples) -> None:
    start = quantized(digits_bn, digits, "w4a4")
    student = student_from(start)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    for module in student.modules():
        if isinstance(module, FakeQuantizer):
            module.register_forward_hook(count)
    with torch.no_grad():
        student(torch.from_numpy(digits.images[:4]))
    moved = sum(len(group) - 1 for group in start.prepared.placement.shared)
    assert moved > 0
    assert calls == len(start.encodings) - moved


def test_steps_leave_room_for_integer_biases(model_of: Model) -> None:
    """A channel that folding has all but switched off: its bias would overflow in steps of its own."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    kernel[1] *= 1e-9
    weights = {"k": kernel, "b": np.asarray([0.5, 2.0, -1.0, 0.0], np.float32)}
    source = load(model_of("float[n,3,8,8] x", "float[n,4,6,6] y", "h = Conv(x, k, b) y = Relu(h)", weights))
    samples = Samples(rng.standard_normal((32, 3, 8, 8)).astype(np.float32))
    start = encode(prepare(source, find_target("cpu")), find_plugin("calibrators", "minmax")(), samples)
    student = student_from(start)
    with torch.no_grad():
        student.learned()["biases.tensor b.units"][1] *= 3  # it learns a larger one
        student.constrain()
    encodings = student.encodings()
    student.write_back(start.prepared.model)
    bias = start.prepared.model.graph.initializers["b"].const_value
    assert bias is not None
    room = raise_scale_for_bias(encodings["k"], bias.numpy(), encodings["x"])
    assert room is encodings["k"]
    assert float(encodings["k"].scale[1]) > 2.9 * float(start.encodings["k"].scale[1])


@pytest.mark.parametrize("target", ["cpu", "web"])
def test_sums_of_two_products_keep_fitting_into_16_bits(digits_bn: Path, digits: Samples, target: str) -> None:
    start = quantized(digits_bn, digits, "w8a8", target)
    student = student_from(start)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():  # it learns larger weights and smaller steps
        for parameter in student.weights.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise) - 0.1)
        student.constrain()
    student.write_back(start.prepared.model)
    encodings, found = student.encodings(), []
    for node in start.prepared.model.graph:
        weight = constant_of(node.inputs[1]) if is_op(node, WEIGHTED_OPS) else None
        if weight is not None:
            sums = neighbor_sums(node, encodings[name_of(node.inputs[1])].quantize(weight.numpy()))
            found += [] if sums is None else [int(sums.max())]
    assert len(found) > 5
    assert (max(found) <= 128) == (target == "cpu")
