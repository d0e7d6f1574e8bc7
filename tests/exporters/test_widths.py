"""Files of other widths than 8: their types, and that they compute what the encodings say."""

from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from dfq_deploy.exporters.qdq import Qdq
from onnx import TensorProto

from dfq_deploy import Samples
from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.evaluation.tensors import tensor_distances
from dfq_deploy.graph.loading import load

ModelOf = Callable[..., onnx.ModelProto]

NORMAL = np.random.default_rng(0).normal
WEIGHT = NORMAL(0, 0.5, (6, 4, 3, 3)).astype(np.float32)
BIAS = NORMAL(0, 0.5, 6).astype(np.float32)
X = NORMAL(0, 1, (3, 4, 8, 8)).astype(np.float32)


def unsigned(bits: int) -> QuantType:
    return QuantType(bits, signed=False, symmetric=False)


@pytest.mark.parametrize(
    ("weight_bits", "bits", "weight_type", "type_", "clips", "opset"),
    [
        (8, 8, TensorProto.INT8, TensorProto.UINT8, 0, 17),
        (4, 8, TensorProto.INT4, TensorProto.UINT8, 0, 21),
        (4, 4, TensorProto.INT4, TensorProto.UINT4, 0, 21),
        (3, 3, TensorProto.INT4, TensorProto.UINT8, 1, 21),
        (5, 6, TensorProto.INT8, TensorProto.UINT8, 1, 17),
        (8, 16, TensorProto.INT8, TensorProto.UINT16, 0, 21),
    ],
)
@pytest.mark.parametrize("level", [0, 2])
def test_a_file_computes_what_its_encodings_say(
    model_of: ModelOf,
    tmp_path: Path,
    weight_bits: int,
    bits: int,
    weight_type: int,
    type_: int,
    clips: int,
    opset: int,
    level: int,
) -> None:
    model = load(model_of("float[n,4,8,8] x", "float[n,6,6,6] y", "y = Conv(x, w, b)", {"w": WEIGHT, "b": BIAS}))
    model.metadata_props["author"] = "someone"
    spans = np.abs(WEIGHT).reshape(6, -1).max(1)
    weight = Encoding.of_bounds(-spans, spans, QuantType(weight_bits, signed=True, symmetric=True), 0)
    activation = Encoding.of_range(Range(-1.5, 2), unsigned(bits))
    (path,) = Qdq().export(model, {"x": activation, "w": weight}, tmp_path / "model.onnx").files

    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert (stored["w_quantized"], stored["x_zero_point"]) == (weight_type, type_)
    assert stored["b_quantized"] == TensorProto.INT32
    assert sum(node.op_type == "Clip" for node in proto.graph.node) == clips
    assert proto.opset_import[0].version == opset
    assert [(entry.key, entry.value) for entry in proto.metadata_props] == [("author", "someone")]

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel(level)
    (found,) = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    # The formulas of QuantizeLinear and DequantizeLinear, written out.
    x = np.clip(np.rint(X / activation.scale) + activation.zero_point, 0, 2**bits - 1) - activation.zero_point
    limit = 2 ** (weight_bits - 1) - 1
    steps = weight.scale[:, None, None, None]
    w = np.clip(np.rint(WEIGHT / steps), -limit, limit) * steps
    units = activation.scale * weight.scale
    y = torch.nn.functional.conv2d(
        torch.from_numpy((x * activation.scale).astype(np.float32)),
        torch.from_numpy(w.astype(np.float32)),
        torch.from_numpy((np.rint(BIAS / units) * units).astype(np.float32)),
    )
    np.testing.assert_allclose(found, y.numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("bits", [3, 4, 8, 16])
@pytest.mark.parametrize("between", ["c = Clip(h, least, most)", "d = Clip(h, least, most) c = Identity(d)"])
def test_what_a_clip_writes_loads_at_every_width(model_of: ModelOf, tmp_path: Path, bits: int, between: str) -> None:
    nodes = f"h = Conv(x, w, b) {between} y = Conv(c, v)"
    ends = {"least": np.zeros((), np.float32), "most": np.full((), 6, np.float32)}
    weights = {"w": WEIGHT, "b": BIAS, "v": WEIGHT.transpose(1, 0, 2, 3).copy()}
    model = load(model_of("float[n,4,8,8] x", "float[n,4,4,4] y", nodes, weights | ends))
    encodings = {"x": Encoding.of_range(Range(-2, 2), unsigned(8)), "c": Encoding.of_range(Range(0, 6), unsigned(bits))}
    for name in "wv":  # ONNX Runtime would quantize float weights between DQ and Q by itself
        spans = np.abs(weights[name]).reshape(len(weights[name]), -1).max(1)
        encodings[name] = Encoding.of_bounds(-spans, spans, QuantType(8, signed=True, symmetric=True), 0)
    (path,) = Qdq().export(model, encodings, tmp_path / "model.onnx").files
    results = []
    for level in ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL:
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        results += ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-4)


def test_weights_of_four_bits_take_half_a_byte(model_of: ModelOf, tmp_path: Path) -> None:
    weight = NORMAL(0, 0.5, (256, 256)).astype(np.float32)
    model = load(model_of("float[n,256] x", "float[n,256] y", "y = MatMul(x, w)", {"w": weight}))
    spans = np.abs(weight).max(0)
    sizes = []
    for bits in (8, 4, 2):
        encoding = Encoding.of_bounds(-spans, spans, QuantType(bits, signed=True, symmetric=True), 1)
        activation = Encoding.of_range(Range(-1, 1), unsigned(8))
        (path,) = Qdq().export(model, {"x": activation, "w": encoding}, tmp_path / f"{bits}.onnx").files
        sizes.append(path.stat().st_size)
    assert sizes[0] - sizes[1] == pytest.approx(256 * 256 / 2, rel=0.02)
    assert sizes[1] == sizes[2]


def test_biases_stay_float_where_the_runtime_wants_them_so(model_of: ModelOf, tmp_path: Path) -> None:
    model = load(model_of("float[n,4,8,8] x", "float[n,6,6,6] y", "y = Conv(x, w, b)", {"w": WEIGHT, "b": BIAS}))
    weight = Encoding.of_bounds(
        np.full(6, -1e-7), np.full(6, 1e-7), QuantType(8, signed=True, symmetric=True), 0
    )  # so small that an int32 bias would not fit
    activation = Encoding.of_range(Range(0, 1), unsigned(8))
    (path,) = Qdq(integer_bias=False).export(model, {"x": activation, "w": weight}, tmp_path / "model.onnx").files
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    np.testing.assert_array_equal(stored["b"], BIAS)
    np.testing.assert_array_equal(stored["w_scale"], weight.scale)


@pytest.mark.parametrize(
    ("cut", "bits", "high", "left"),
    [
        ("c = Relu(h)", 5, 6.0, False),
        ("c = Clip(h, least, most)", 5, 6.0, False),
        ("c = Clip(h, least, most)", 4, 5.9, False),
        ("c = Clip(h, least, most)", 5, 6.5, True),  # the integers go on beyond the Clip
        ("c = Relu(h)", 8, 6.0, True),  # ONNX Runtime leaves it out by itself
    ],
)
def test_what_the_integers_cut_off_needs_no_operator(
    model_of: ModelOf, tmp_path: Path, cut: str, bits: int, high: float, left: bool
) -> None:
    ends = {"least": np.zeros((), np.float32), "most": np.full((), 6, np.float32)}
    weights = {"w": WEIGHT, "b": BIAS, "v": WEIGHT.transpose(1, 0, 2, 3).copy()}
    nodes = f"h = Conv(x, w, b) {cut} y = Conv(c, v)"
    model = load(model_of("float[n,4,8,8] x", "float[n,4,4,4] y", nodes, weights | ends))
    encodings = {
        "x": Encoding.of_range(Range(-2, 2), unsigned(8)),
        "c": Encoding.of_range(Range(0, high), unsigned(bits)),
    }
    for name in "wv":
        spans = np.abs(weights[name]).reshape(len(weights[name]), -1).max(1)
        encodings[name] = Encoding.of_bounds(-spans, spans, QuantType(8, signed=True, symmetric=True), 0)
    (path,) = Qdq().export(model, encodings, tmp_path / "model.onnx").files
    (writer,) = (node.op_type for node in onnx.load(path).graph.node if node.output[0] == "c")
    assert writer == (cut.split()[2].partition("(")[0] if left else "Conv")
    distances = tensor_distances(model, onnx.load(path), encodings, Samples(X))
    assert [distance.name for distance in distances] == ["x", "c"]
    (found,) = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})
    x, w, v = (
        torch.from_numpy(encodings[name].fake_quantize(array))
        for name, array in (("x", X), ("w", weights["w"]), ("v", weights["v"]))
    )
    hidden = torch.nn.functional.conv2d(x, w, torch.from_numpy(BIAS)).clamp(0, inf if "Relu" in cut else 6)
    middle = torch.from_numpy(encodings["c"].fake_quantize(hidden.numpy()))
    expected = torch.nn.functional.conv2d(middle, v).numpy()
    assert np.abs(found - expected).mean() < 0.01 * np.abs(expected).mean()
