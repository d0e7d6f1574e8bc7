"""Bytes through the integer file against preprocessed floats through the float model and the plain quantized one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy import PREPROCESSES, Preprocess, Samples, calibrate, evaluate, export
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.loading import load_quantized
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.quantization.integer_io import integer_io
from dfq_deploy.quantization.qdq_reader import constant_dequantizer, integers_and_encoding
from dfq_deploy.runtime.integer_io import METADATA
from dfq_deploy.runtime.processor import neighbor_sums

Tiny = Callable[..., onnx.ModelProto]

PICTURES = np.random.default_rng(5).integers(0, 256, (32, 8, 8, 3), np.uint8)
BYTES = np.ascontiguousarray(PICTURES.transpose(0, 3, 1, 2))


def run(model: bytes, images: NDArray[np.generic]) -> NDArray[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    step = port.shape[0] if isinstance(port.shape[0], int) else len(images)
    return np.concatenate([session.run(None, {port.name: images[at : at + step]})[0] for at in range(0, 32, step)])


def noise(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.square(found - expected).mean() / np.square(expected).mean())


def meant(model: ir.Model, name: str, integers: NDArray[np.integer]) -> NDArray[np.float32]:
    """The floats that integers of an output stand for, by the file's own metadata."""
    entry = json.loads(model.metadata_props[METADATA])["outputs"][name]
    assert str(integers.dtype) == entry["type"]
    floats: NDArray[np.float32] = (integers.astype(np.float32) - entry["zero_point"]) * np.float32(entry["scale"])
    return floats


def test_weights_of_four_bits_stay_within_them_where_channels_differ(tiny: Tiny, tmp_path: Path) -> None:
    preprocess = Preprocess((0.4, 0.5, 0.3), (0.2, 0.25, 0.3))
    floats, source = preprocess.apply(PICTURES), tiny()
    calibrate(source, data=Samples(floats), bits="w4a8", preprocess=preprocess, refine=(), output=tmp_path)
    plain = run((tmp_path / "model.qdq.onnx").read_bytes(), floats)
    model = load_quantized(tmp_path / "model.qdq.onnx")
    integer_io(model, preprocess)
    expected = run(source.SerializeToString(), floats)
    assert noise(run(to_bytes(model), BYTES), expected) < 2 * noise(plain, expected)


def test_sums_that_do_not_saturate_still_do_not_where_channels_differ(tiny: Tiny, tmp_path: Path) -> None:
    preprocess = Preprocess((0.4, 0.5, 0.3), (0.2, 0.25, 0.02))
    calibrate(tiny(), data=Samples(preprocess.apply(PICTURES)), preprocess=preprocess, refine=(), output=tmp_path)
    model = load_quantized(tmp_path / "model.qdq.onnx")
    integer_io(model, preprocess)
    first = next(node for node in model.graph if is_op(node, "Conv"))
    dequantizer = constant_dequantizer(first.inputs[1])
    assert dequantizer is not None
    sums = neighbor_sums(first, integers_and_encoding(dequantizer)[0])
    assert sums is not None
    assert sums.max() in (127, 128)


@pytest.mark.parametrize(
    ("pixels", "target"),
    [("imagenet", "cpu"), ("imagenet", "xnnpack"), ("minus-one-one", "nnapi"), ("raw", "cpu")],
)
def test_bytes_give_what_preprocessed_floats_give(tiny: Tiny, tmp_path: Path, pixels: str, target: str) -> None:
    preprocess = PREPROCESSES[pixels]
    floats = preprocess.apply(PICTURES)
    source = tiny()
    calibrate(source, data=Samples(floats), target=target, preprocess=preprocess, refine=(), output=tmp_path)
    plain = run((tmp_path / "model.qdq.onnx").read_bytes(), floats)
    model = load_quantized(tmp_path / "model.qdq.onnx")
    kept = integer_io(model, preprocess)
    found = run(to_bytes(model), BYTES)
    if target == "nnapi":
        assert kept == ()
        found = meant(model, "scores", found)
    else:
        assert kept == ("output 'scores' stays float: the runtime's integer kernel writes float",)
    expected = run(source.SerializeToString(), floats)
    assert noise(plain, expected) < 0.02
    # Channels of different means are padded with one pixel value: of these 64 pixels 28 stand at the border.
    border = 1e-3 if pixels == "imagenet" else 1e-4
    assert noise(found, expected) < 1.3 * noise(plain, expected) + border
    assert noise(found, plain) < 0.02


def test_the_integer_convolution_reads_the_bytes_themselves(tiny: Tiny, tmp_path: Path) -> None:
    preprocess = PREPROCESSES["imagenet"]
    samples = Samples(preprocess.apply(PICTURES))
    result = calibrate(tiny(), data=samples, preprocess=preprocess, refine=(), integer_io=True, output=tmp_path / "out")
    path = tmp_path / "out/model.integer.onnx"
    assert path in result.files
    # The report feeds the file with bytes, and reads it in its own scales.
    assert result.report["integer_io"]["outputs"][0]["snr_db"] > 25
    assert set(result.report["files"]) == {file.name for file in result.files}
    onnx.checker.check_model(onnx.load(path), full_check=True)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    readers = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node if "image" in node.input]
    assert readers == ["QLinearConv"]


def test_the_first_layer_worked_out_by_hand(model_of: Tiny, tmp_path: Path) -> None:
    """x = pixel / 127.5 - 1: no integer stands for zero, so half a step goes into the bias."""
    weight = np.array([[[[2.0]]]], np.float32)
    source = model_of("float[1,1,1,3] x", "float[1,1,1,3] y", "y = Conv(x, w)", {"w": weight})
    preprocess = Preprocess((0.5,), (0.5,))
    samples = Samples(np.array([[[[-1, 0, 1]]]], np.float32))
    calibrate(source, data=samples, preprocess=preprocess, refine=(), output=tmp_path)
    model = load_quantized(tmp_path / "model.qdq.onnx")
    assert integer_io(model, preprocess) == ()
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in ir.to_proto(model).graph.initializer}
    nodes = {node.op_type: node for node in ir.to_proto(model).graph.node if "x" in node.input}
    (reader,) = nodes.values()
    assert reader.op_type == "DequantizeLinear"
    assert tensors[reader.input[1]] == pytest.approx(1 / 127.5)
    assert tensors[reader.input[2]] == 128
    biases = [array for array in tensors.values() if array.dtype == np.int32 and array.any()]
    # Half a step of the input times the weight's 127 steps.
    assert [array.tolist() for array in biases] == [[pytest.approx(63.5, abs=0.5)]]
    session = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": np.array([[[[0, 128, 255]]]], np.uint8)})[0]
    expected = np.array([-2, 1 / 127.5, 2])
    np.testing.assert_allclose(meant(model, "y", found).reshape(-1), expected, atol=4 / 255)


def test_what_is_no_convolution_is_read_through_a_scale_for_each_channel(model_of: Tiny, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (48, 4)).astype(np.float32)
    source = model_of("float[n,3,4,4] x", "float[n,4] y", "f = Flatten(x) y = MatMul(f, w)", {"w": weight})
    preprocess = Preprocess((0.2, 0.5, 0.8), (0.1, 0.3, 0.5))
    pictures = np.random.default_rng(1).integers(0, 256, (32, 4, 4, 3), np.uint8)
    floats = preprocess.apply(pictures)
    calibrate(source, data=Samples(floats), preprocess=preprocess, refine=(), output=tmp_path)
    model = load_quantized(tmp_path / "model.qdq.onnx")
    integer_io(model, preprocess)
    first = next(iter(model.graph))
    assert first.op_type == "DequantizeLinear"
    assert first.attributes.get_int("axis") == 1
    expected = run(source.SerializeToString(), floats)
    plain = run((tmp_path / "model.qdq.onnx").read_bytes(), floats)
    found = run(to_bytes(model), np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
    assert noise(found, expected) < 1.3 * noise(plain, expected) + 1e-4


def test_without_a_preprocess_the_input_takes_its_own_integers(tiny: Tiny, tmp_path: Path) -> None:
    images = np.random.default_rng(2).normal(0, 1, (32, 3, 8, 8)).astype(np.float32)
    encodings = calibrate(tiny(), data=Samples(images), refine=(), output=tmp_path).encodings
    model = load_quantized(tmp_path / "model.qdq.onnx")
    integer_io(model)
    entry = json.loads(model.metadata_props[METADATA])["inputs"]["image"]
    quantized = np.clip(np.rint(images / np.float32(entry["scale"])) + entry["zero_point"], 0, 255).astype(np.uint8)
    assert entry["zero_point"] == int(encodings["image"].zero_point)
    plain = run((tmp_path / "model.qdq.onnx").read_bytes(), images)
    np.testing.assert_allclose(run(to_bytes(model), quantized), plain, atol=1e-5)


def test_a_phone_gets_the_file_for_bytes_in_its_own_format(tiny: Tiny, tmp_path: Path) -> None:
    preprocess = PREPROCESSES["minus-one-one"]
    floats = preprocess.apply(PICTURES)
    calibrate(tiny(), data=Samples(floats), preprocess=preprocess, refine=(), output=tmp_path / "out")
    source = tmp_path / "out/model.qdq.onnx"
    found = export(source, to="ort", integer_io=True, preprocess=preprocess, output=tmp_path / "net.ort")
    plain = run(source.read_bytes(), floats)
    assert noise(run(found.files[0].read_bytes(), BYTES), plain) < 0.02


def test_evaluate_feeds_and_reads_integers(tiny: Tiny, tmp_path: Path) -> None:
    preprocess = PREPROCESSES["minus-one-one"]
    samples = Samples(preprocess.apply(PICTURES))
    onnx.save(tiny(), tmp_path / "net.onnx")
    out = tmp_path / "out"
    calibrate(
        tmp_path / "net.onnx",
        data=samples,
        target="qnn",
        preprocess=preprocess,
        refine=(),
        integer_io=True,
        output=out,
    )
    plain, integer = (
        evaluate(tmp_path / "net.onnx", out / name, samples).comparison.outputs[0].snr
        for name in ("model.qdq.onnx", "model.integer.onnx")
    )
    assert integer == pytest.approx(plain, abs=2)
    assert integer > 20


def test_an_input_that_is_not_quantized_is_refused(model_of: Tiny) -> None:
    model = ir.from_proto(model_of("float[n,2] x", "float[n,2] y", "y = Relu(x)", {}))
    with pytest.raises(ModelError, match="input 'x' is not quantized, so integers cannot be fed; calibrate"):
        integer_io(model)
