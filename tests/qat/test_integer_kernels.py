"""The student on integers against the file in ONNX Runtime, optimizer and all: the same to the last step."""

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
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.qat.integer_kernels import with_integer_kernels
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import Quantized, encode, prepare
from dfq_deploy.targets.catalog import find_target

Model = Callable[..., onnx.ModelProto]
RNG = np.random.default_rng(0)


def shaken(source: Path | onnx.ModelProto, samples: Samples, bits: str) -> tuple[QuantizedStudent, Quantized]:
    """A student that has changed as if it had learned something, and the model with what it has learned."""
    calibrator = find_plugin("calibrators", "minmax")()
    start = encode(prepare(load(source), find_target("cpu"), Bits.parse(bits)), calibrator, samples)
    student = QuantizedStudent(start.prepared.model, start.prepared.placement, start.encodings)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in student.learned().items():
            size = {"log_step": 0.1, "zero_point": 0.7}.get(name.rpartition(".")[2], 0.3)
            parameter.add_(size * torch.randn(parameter.shape, generator=noise))
        student.constrain()
    student.write_back(start.prepared.model)
    return student, start


def in_the_runtime(student: QuantizedStudent, start: Quantized, images: np.ndarray, path: Path) -> np.ndarray:
    Qdq().export(start.prepared.model, student.encodings(), path)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return found


def kernels(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path.with_suffix(".optimized.onnx")).graph.node}


@pytest.mark.parametrize("bits", ["w8a8", "w5a5", "w6a7"])
def test_a_residual_network_is_the_file_s(
    digits_bn: Path, digits: Samples, held_out: Samples, tmp_path: Path, bits: str
) -> None:
    student, start = shaken(digits_bn, digits, bits)
    path = tmp_path / "model.onnx"
    expected = in_the_runtime(student, start, held_out.images, path)
    assert {"QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm"} <= kernels(path)
    assert "Conv" not in kernels(path)
    with torch.no_grad():
        found = with_integer_kernels(student)(torch.from_numpy(held_out.images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bits", ["w8a8", "w5a5"])
@pytest.mark.parametrize("cut", ["r = Relu(h)", "r = Clip(h, least, most)"])
def test_a_cut_network_with_wide_sums_is_the_file_s(model_of: Model, tmp_path: Path, bits: str, cut: str) -> None:
    """The second layer sums 1,152 products of the same sign, beyond what float32 counts in ones."""
    weights = {
        "k": RNG.normal(0, 0.4, (128, 3, 3, 3)).astype(np.float32),
        "a": RNG.normal(0, 1, 128).astype(np.float32),
        "l": np.abs(RNG.normal(1, 0.02, (8, 128, 3, 3))).astype(np.float32),
        "m": RNG.normal(0, 1, (8 * 16, 5)).astype(np.float32),
        "shape": np.asarray([0, -1]),
        "least": np.zeros((), np.float32),
        "most": np.asarray(2, np.float32),
    }
    nodes = f"h = Conv(x, k, a) {cut} s = Conv(r, l) f = Reshape(s, shape) y = MatMul(f, m)"
    images = RNG.standard_normal((64, 3, 8, 8)).astype(np.float32)
    student, start = shaken(model_of("float[n,3,8,8] x", "float[n,5] y", nodes, weights), Samples(images), bits)
    path = tmp_path / "model.onnx"
    expected = in_the_runtime(student, start, images, path)
    assert not kernels(path) & {"Conv", "FusedConv", "MatMul"}
    with torch.no_grad():
        found = with_integer_kernels(student)(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_four_bits_stay_as_they_are(digits_bn: Path, digits: Samples) -> None:
    student, _ = shaken(digits_bn, digits, "w4a4")
    images = torch.from_numpy(digits.images[:16])
    with torch.no_grad():
        copy = with_integer_kernels(student)
        close = (copy(images) - student(images)).abs().max() / student(images).abs().max()
    layers = {"Conv", "Gemm", "MatMul"}
    before, after = ({s.name: s.operator for s in s.twin.steps if s.op_type in layers} for s in (student, copy))
    assert before == after
    assert float(close) < 0.05  # sums have 8 bits: they run on integers


def test_the_student_is_left_as_it_is(digits_bn: Path, digits: Samples) -> None:
    student, _ = shaken(digits_bn, digits, "w8a8")
    images = torch.from_numpy(digits.images[:16])
    with torch.no_grad():
        before = student(images)
        with_integer_kernels(student)
        after = student(images)
    assert torch.equal(before, after)
    assert any(parameter.requires_grad for parameter in student.learned().values())
