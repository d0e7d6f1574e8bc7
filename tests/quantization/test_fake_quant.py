"""The fake-quantized twin against the exported file in ONNX Runtime, and one tensor by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from dfq_deploy import calibrate, synthesize
from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.quantization.fake_quant import fake_quantizers
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]


def distances(path: Path, input_name: str, output: Path) -> tuple[float, float]:
    """Mean distance of the scores of the student and of the float twin from those of the exported file."""
    samples = synthesize(path, synth="procedural", count=32)
    result = calibrate(path, data=samples, method="minmax", refine=(), output=output)
    prepared = load(path)
    fold_batch_normalization(prepared)
    lower(prepared, find_target("cpu"))
    twin = Twin.from_model(prepared)
    images = torch.from_numpy(samples.images)
    student = twin.run({input_name: images}, hooks=fake_quantizers(result.encodings))["scores"].numpy()
    plain = twin.run({input_name: images})["scores"].numpy()

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(result.model_path), options, providers=["CPUExecutionProvider"])
    exported = session.run(["scores"], {input_name: samples.images})[0]
    return float(np.abs(student - exported).mean()), float(np.abs(plain - exported).mean())


def test_the_student_computes_what_the_file_does(tiny: Model, tmp_path: Path) -> None:
    onnx.save(tiny(), tmp_path / "tiny.onnx")
    student, plain = distances(tmp_path / "tiny.onnx", "image", tmp_path / "out")
    assert student < 0.2 * plain


def test_a_deep_student_stays_with_the_file(digits_bn: Path, tmp_path: Path) -> None:
    # Sums in another order, and biases that are no integers, flip a rounding of the first layer in one of 2,500
    # values; behind ten layers every fifth is one step off, which quantization itself moves further.
    student, plain = distances(digits_bn, "image", tmp_path / "out")
    assert student < 0.5 * plain


def test_one_tensor_by_hand() -> None:
    encoding = Encoding(np.array(0.5, np.float32), np.array(2, np.int32), QuantType(8, signed=False, symmetric=False))
    values = torch.tensor([-5.0, -1.0, -0.3, 0.26, 0.7, 126.5, 500.0], requires_grad=True)
    rounded = fake_quantizers({"x": encoding})["x"](values)
    # Integers 0 to 255 less the zero point 2, times a half: -1 to 126.5.
    assert rounded.tolist() == [-1, -1, -0.5, 0.5, 0.5, 126.5, 126.5]
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_channels_by_hand() -> None:
    qtype = QuantType(8, signed=True, symmetric=True)
    encoding = Encoding(np.array([1.0, 0.25], np.float32), np.zeros(2, np.int32), qtype, axis=0)
    rounded = fake_quantizers({"w": encoding})["w"](torch.tensor([[0.6, -200.0], [0.6, -200.0]]))
    assert rounded.tolist() == [[1, qtype.qmin], [0.5, qtype.qmin / 4]]
