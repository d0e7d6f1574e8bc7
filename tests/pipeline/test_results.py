"""What the report says of the tensors, checked against the files that it is about."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dfq_deploy import Samples, calibrate
from dfq_deploy.progress import Clock

Model = Callable[..., onnx.ModelProto]


def test_tensors_are_those_of_the_exported_file(digits_bn: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(0, 1, (16, 1, 16, 16)).astype(np.float32)
    result = calibrate(digits_bn, data=Samples(images), output=tmp_path / "out")
    float_weights = {tensor.name for tensor in onnx.load(digits_bn).graph.initializer}
    entries = {entry["name"]: entry for entry in result.report["tensors"]}
    assert {name for name, entry in entries.items() if entry["kind"] == "weight"} == float_weights & set(entries)
    assert entries["image"]["kind"] == "activation"
    assert (entries["image"]["type"], entries["classifier.2.weight"]["type"]) == ("u8", "s8")
    assert entries["image"]["low"] == pytest.approx(images.min(), abs=0.5)
    exported = onnx.load(tmp_path / "out/model.qdq.onnx").graph
    int8 = [tensor for tensor in exported.initializer if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1]
    assert len(int8) == sum(entry["kind"] == "weight" for entry in entries.values()) == 10
    written = json.loads((tmp_path / "out/encodings.json").read_text())
    assert set(written["tensors"]) == set(entries)


def test_a_weight_without_channels_is_a_weight_too(model_of: Model) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (2, 3, 5)).astype(np.float32)
    model = model_of("float[n,2,4,3] x", "float[n,2,4,5] y", "y = MatMul(x, w)", {"w": weight})
    samples = Samples(np.random.default_rng(1).normal(0, 1, (8, 2, 4, 3)).astype(np.float32))
    report = calibrate(model, data=samples).report
    assert {entry["name"]: entry["kind"] for entry in report["tensors"]} == {"x": "activation", "w": "weight"}


def test_sizes_and_times_are_measured(digits_bn: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(0, 1, (8, 1, 16, 16)).astype(np.float32)
    report = calibrate(digits_bn, data=Samples(images), output=tmp_path / "out", seed=5).report
    assert report["quantized"]["file_bytes"] == (tmp_path / "out/model.qdq.onnx").stat().st_size
    assert report["model"]["file_bytes"] == pytest.approx(digits_bn.stat().st_size, rel=0.05)
    assert report["quantized"]["file_bytes"] < 0.6 * report["model"]["file_bytes"]
    assert (report["samples"]["method"], report["samples"]["seed"]) == ("data", 5)
    assert list(report["seconds"]) == [
        "samples",
        "ranges",
        "refinement",
        "remedies",
        "export",
        "check",
        "verdict",
        "report",
    ]
    assert all(seconds >= 0 for seconds in report["seconds"].values())


def test_the_clock_counts_from_lap_to_lap(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 12.5, 13.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock()
    clock.lap("first")
    clock.lap("second")
    assert clock.seconds == {"first": 2.5, "second": 0.5}


def test_tensors_are_compared_with_the_float_file_as_it_was_given(digits_bn: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(0, 1, (64, 1, 16, 16)).astype(np.float32)
    result = calibrate(digits_bn, data=Samples(images), bits="w3a8", refine=["reconstruct"], output=tmp_path / "out")
    entries = {entry["name"]: entry for entry in result.report["tensors"]}
    stem = "/features/features.2/Relu_output_0"
    held = images[7::8]
    float_file, quantized = onnx.load(digits_bn), onnx.load(tmp_path / "out/model.qdq.onnx")
    exact = shown(float_file, stem, held)
    (quantizer,) = [node for node in quantized.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == stem]
    (reader,) = [node for node in quantized.graph.node if quantizer.output[0] in node.input]
    given = shown(quantized, reader.output[0], held)
    expected = 10 * np.log10(np.square(exact).sum() / np.square(exact - given).sum())
    assert entries[stem]["snr_db"] == pytest.approx(expected, abs=0.1)
    # At three bits the stem's weights cost far more than what their own grid would tell.
    assert expected < 25


def shown(model: onnx.ModelProto, tensor: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """One tensor of a file, in ONNX Runtime."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = ort.InferenceSession(copy.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([tensor], {session.get_inputs()[0].name: images})[0]
    return found
