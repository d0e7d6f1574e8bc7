"""Layers whose activations are quantized at run time, and tables of integers, as ONNX Runtime runs them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from dfq_deploy.exporters.qdq import quantized_model
from numpy.typing import NDArray
from onnx import numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.plugins.registry import calibrator_of
from dfq_deploy.quantization.dynamic import Activations, dynamic_form
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target

Floats = NDArray[np.float32]

WIDTH = 256

RNG = np.random.default_rng(0)


def weights(*shape: int) -> Floats:
    """Small normal numbers; the columns differ in scale."""
    scales = np.linspace(0.2, 2.0, shape[-1]) / np.sqrt(shape[-2])
    return np.asarray(RNG.standard_normal(shape) * scales, np.float32)


def model(text: str, **constants: NDArray[Any]) -> onnx.ModelProto:
    """A model of ONNX text with constants."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return proto


def quantized(proto: onnx.ModelProto, samples: Samples, activations: Activations = "dynamic") -> tuple[bytes, Any]:
    """The file, and the prepared model that it was written from."""
    prepared = prepare(load(proto), find_target("cpu"), activations=activations)
    found = encode(prepared, calibrator_of("minmax"), samples)
    return to_bytes(quantized_model(prepared.model, found.encodings)), found.prepared


def decibels(proto: onnx.ModelProto, file: bytes, **feeds: NDArray[Any]) -> float:
    """Signal to noise of the first output."""
    pair = [ort.InferenceSession(one, providers=["CPUExecutionProvider"]) for one in (proto.SerializeToString(), file)]
    expected, actual = (one.run(None, feeds)[0].astype(np.float64) for one in pair)
    return float(10 * np.log10(np.square(expected).sum() / np.square(actual - expected).sum()))


def kinds(file: bytes) -> Counter[str]:
    """Kernels of the layers in the graph that ONNX Runtime optimizes."""
    return Counter(kernel.kernel for kernel in count_kernels(onnx.load_from_string(file)).kernels)


def rows(*shape: int) -> Floats:
    """Normal numbers."""
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("layer", ["m = MatMul(x, w) y = Add(m, b)", "y = Gemm <transB = 1> (x, v, b)"])
def test_dense_layers_run_in_integers_with_the_range_of_each_input(layer: str) -> None:
    shape = ["n", WIDTH] if "Gemm" in layer else ["n", "t", WIDTH]
    sizes = ",".join(map(str, shape))
    weight = weights(WIDTH, WIDTH)
    held = {"v": np.ascontiguousarray(weight.T)} if "Gemm" in layer else {"w": weight}
    proto = model(f"(float[{sizes}] x) => (float[{sizes}] y) {{ {layer} }}", **held, b=weights(1, WIDTH)[0])
    array = rows(2, WIDTH) if "Gemm" in layer else rows(2, 4, WIDTH)
    file, _ = quantized(proto, Samples(array))
    assert set(kinds(file)) <= {"DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
    # A range that was measured on samples would clip the larger input and round the smaller one away.
    assert min(decibels(proto, file, x=array * scale) for scale in (0.01, 1.0, 100.0)) > 35


def test_rows_of_different_size_have_a_scale_each() -> None:
    proto = model("(float[n,t,256] x) => (float[n,t,256] y) { y = MatMul(x, w) }", w=weights(WIDTH, WIDTH))
    even, uneven = rows(4, 16, WIDTH), rows(4, 16, WIDTH) * np.geomspace(1e-3, 20, 16, dtype=np.float32)[:, None]
    for array, form in ((even, "tensor"), (uneven, "row")):
        file, prepared = quantized(proto, Samples(array))
        assert [dynamic_form(node) for node in prepared.model.graph if node.op_type == "MatMul"] == [form]
        smallest = array[:1, :1]  # on its own, that row has its own scale in both forms
        assert decibels(proto, file, x=array) > 35
        assert decibels(proto, file, x=smallest) > 35
    assert decibels(proto, file, x=np.zeros((1, 2, WIDTH), np.float32) + np.eye(2, WIDTH, dtype=np.float32)) > 35


def test_rows_of_a_gelu_need_no_magnitudes() -> None:
    nodes = "d = Div(x, root) e = Erf(d) p = Add(e, one) q = Mul(x, p) r = Mul(q, half) y = MatMul(r, w)"
    numbers = {name: np.array(number, np.float32) for name, number in (("root", 2**0.5), ("one", 1), ("half", 0.5))}
    text = f"(float[n,t,{WIDTH}] x) => (float[n,t,{WIDTH}] y) {{ {nodes} }}"
    proto = model(text, w=weights(WIDTH, WIDTH), **numbers)
    array = np.abs(rows(4, 32, WIDTH)) * np.geomspace(0.5, 500, 32, dtype=np.float32)[:, None]
    file, prepared = quantized(proto, Samples(array))
    assert [dynamic_form(node) for node in prepared.model.graph if dynamic_form(node)] == ["row"]
    kinds_of_nodes = Counter(node.op_type for node in onnx.load_from_string(file).graph.node)
    assert (kinds_of_nodes["ReduceMax"], kinds_of_nodes["Abs"]) == (1, 0)
    assert decibels(proto, file, x=array) > 36
    for given in (np.zeros((1, 2, WIDTH), np.float32), np.full((1, 2, WIDTH), -0.75, np.float32)):
        session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        reference = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        wanted, found = (one.run(None, {"x": given})[0] for one in (reference, session))
        np.testing.assert_allclose(found, wanted, atol=0.03)


def test_layers_that_read_one_tensor_share_its_integers() -> None:
    names = "qkv"
    text = " ".join(f"{name} = MatMul(x, w{name})" for name in names)
    proto = model(
        f"(float[n,t,256] x) => (float[n,t,256] q, float[n,t,256] k, float[n,t,256] v) {{ {text} }}",
        **{f"w{name}": weights(WIDTH, WIDTH) for name in names},
    )
    file, _ = quantized(proto, Samples(rows(2, 4, WIDTH)))
    counts = Counter(node.op_type for node in onnx.load_from_string(file).graph.node)
    assert (counts["DynamicQuantizeLinear"], counts["MatMulInteger"]) == (1, 3)


def test_small_layers_stay_static() -> None:
    proto = model("(float[n,t,16] x) => (float[n,t,16] y) { y = MatMul(x, w) }", w=weights(16, 16))
    file, prepared = quantized(proto, Samples(rows(2, 4, 16)))
    assert not prepared.placement.dynamic
    assert kinds(file) == {"MatMulIntegerToFloat": 1}


LOOP = """(float[5,1,256] x) => (float[1,256] y) {
    y = Loop (count, go, start) <body = step (int64 i, bool c, float[1,256] h) => (bool d, float[1,256] n) {
        d = Identity(c) one = Gather(x, i) a = MatMul(one, w) r = MatMul(h, v) s = Add(a, r) n = Tanh(s) }> }"""


@pytest.mark.parametrize("size", [WIDTH, 16])
def test_layers_inside_a_loop_run_in_integers_where_they_gain(size: int) -> None:
    start = {"count": np.array(5), "go": np.array(True), "start": np.zeros((1, size), np.float32)}
    proto = model(LOOP.replace("256", str(size)), **start, w=weights(size, size), v=weights(size, size))
    array = rows(5, 1, size)
    file, prepared = quantized(proto, Samples(array), "auto")
    if size == WIDTH:
        assert kinds(file) == {"DynamicQuantizeMatMul": 2}
        assert decibels(proto, file, x=array) > 30
    else:
        assert [reason for _, _, reason in prepared.placement.left_float] == [
            "it stands inside a subgraph, and is too small to gain from integers (below 65536 weights)"
        ] * 2


@pytest.mark.parametrize("directions", [1, 2])
def test_an_lstm_runs_in_integers(directions: int) -> None:
    direction = "forward" if directions == 1 else "bidirectional"
    proto = model(
        f"(float[t,n,64] x) => (float[t,{directions},n,64] y) "
        f'{{ y, h = LSTM <hidden_size = 64, direction = "{direction}"> (x, w, r, b) }}',
        w=weights(directions, 256, 64), r=weights(directions, 256, 64), b=rows(directions, 512) / 10,
    )  # fmt: skip
    array = rows(6, 1, 64)
    file, _ = quantized(proto, Samples(array), "auto")
    assert kinds(file) == {"DynamicQuantizeLSTM": 1}
    assert decibels(proto, file, x=array) > 25


def test_a_table_is_stored_as_integers_and_only_rows_are_dequantized(tmp_path: Path) -> None:
    table = weights(500, 64)
    proto = model("(int64[n,t] ids) => (float[n,t,64] y) { y = Gather(table, ids) }", table=table)
    ids = np.arange(12, dtype=np.int64).reshape(3, 4)
    file, _ = quantized(proto, Samples(ids.astype(np.float32)), "auto")
    assert len(file) < table.nbytes / 3
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(file, options, ["CPUExecutionProvider"])
    assert (
        max(tensor.raw_data.__len__() for tensor in onnx.load(tmp_path / "optimized.onnx").graph.initializer) < 33_000
    )
    assert decibels(proto, file, ids=ids) > 40


@pytest.mark.parametrize("form", ["Gemm", "Transpose"])
@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_a_table_that_is_a_layer_too_is_stored_once(form: str, activations: Activations) -> None:
    last = {
        "Gemm": "r = Reshape(e, flat) y = Gemm <transB = 1> (r, table)",
        "Transpose": "t = Transpose <perm = [1, 0]> (table) y = MatMul(e, t)",
    }
    table = weights(512, 256)
    flat = {"flat": np.array([-1, 256])} if form == "Gemm" else {}
    proto = model(
        f"(int64[n,4] ids) => (float y) {{ e = Gather(table, ids) {last[form]} }}".replace(
            "float y", "float[n,512] y" if form == "Gemm" else "float[n,4,512] y"
        ),
        table=table, **flat,
    )  # fmt: skip
    ids = np.arange(16, dtype=np.int64).reshape(4, 4)
    file, _ = quantized(proto, Samples(ids.astype(np.float32)), activations)
    assert len(file) < 1.1 * table.size + 10_000
    assert set(kinds(file)) <= {"QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
    assert decibels(proto, file, ids=ids) > 30
