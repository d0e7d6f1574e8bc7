"""The QDQ file, as ONNX Runtime reads it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from dfq_deploy.exporters.qdq import Qdq
from numpy.typing import NDArray
from onnx import numpy_helper

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.errors import ModelError, OutputError
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.quantization.placement.place import Placement, encodings_of_weights, place, unify
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]
Arrays = Mapping[str, NDArray[Any]]

CPU = find_target("cpu")
S8 = CPU.weight
U8 = CPU.activation
FLOAT_WEIGHTED = {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def session(model: Path | bytes, level: int, optimized: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel(level)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(model if isinstance(model, bytes) else str(model), options)


DISABLED, EXTENDED = 0, 2


def observed(model: ir.Model, placement: Placement, feeds: Arrays) -> dict[str, Range]:
    """Least and greatest value of each quantized tensor over ``feeds``, by ONNX Runtime."""
    proto = ir.to_proto(model)
    computed = [name for name in placement.activations if name not in feeds]
    for name in set(computed) - {value.name for value in proto.graph.output}:
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    values = dict(zip(computed, session(proto.SerializeToString(), DISABLED).run(computed, feeds), strict=True))
    values |= {name: array for name, array in feeds.items() if name in placement.activations}
    return {name: Range(float(array.min()), float(array.max())) for name, array in values.items()}


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Root of the mean squared difference, as a share of ``other``'s."""
    return float(np.sqrt(np.square(one - other).mean() / np.square(other).mean()))


@dataclass(frozen=True)
class Exported:
    """One model, quantized from the feeds that it is then run with."""

    path: Path
    operators: Counter[str]
    floats: list[NDArray[np.float32]]
    plain: list[NDArray[np.float32]]
    fused: list[NDArray[np.float32]]
    placement: Placement
    encodings: dict[str, Encoding]

    def steps(self) -> float:
        """Largest difference between the fused and the plain run, in the coarsest step of the model's activations."""
        coarsest = max(float(encoding.scale) for name, encoding in self.encodings.items() if encoding.axis is None)
        return max(float(np.abs(a - b).max()) for a, b in zip(self.fused, self.plain, strict=True)) / coarsest


def quantize(proto: onnx.ModelProto | Path, feeds: Arrays, folder: Path) -> Exported:
    model = load(proto)
    fold_batch_normalization(model)
    lower(model, CPU)
    placement = place(model, CPU)
    ranges = unify(observed(model, placement, feeds), placement)
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in placement.activations.items()}
    encodings |= encodings_of_weights(model, placement, activations=encodings)
    path = folder / "model.qdq.onnx"
    assert Qdq().export(model, encodings, path).files == (path,)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    fused = session(path, EXTENDED, folder / "optimized.onnx")
    return Exported(
        path,
        Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node),
        session(to_bytes(load(proto)), DISABLED).run(None, feeds),
        session(path, DISABLED).run(None, feeds),
        fused.run(None, feeds),
        placement,
        encodings,
    )


@pytest.mark.parametrize(
    ("name", "preprocess", "integers"),
    [
        ("akamaster_resnet20_cifar10", "imagenet", {"QLinearConv": 19, "QGemm": 1, "QLinearAdd": 9}),
        ("akamaster_resnet56_cifar10", "imagenet", {"QLinearConv": 55, "QGemm": 1, "QLinearAdd": 27}),
        ("kd_resnet20_cifar10", "cifar10", {"QLinearConv": 22, "QGemm": 1, "QLinearAdd": 9}),
        ("kd_WRN16_1_cifar10", "cifar10", {"QLinearConv": 22, "QGemm": 1, "QLinearAdd": 6}),
        ("mobilenet_v1_075_224", "minus-one-one", {"QLinearConv": 27, "QGemm": 1}),
    ],
)
def test_real_models_run_in_integers(
    zoo: Path, tmp_path: Path, name: str, preprocess: str, integers: dict[str, int]
) -> None:
    path = zoo / f"models/{name}_bn.onnx"
    data = "imagenet_1000_224.zip" if "224" in name else "cifar10_train_calibration.npz"
    images = read_samples(zoo / "data" / data, PREPROCESSES[preprocess], sample_shape(load(path)), limit=16).images
    exported = quantize(path, {"input": images}, tmp_path)
    assert {op: count for op, count in exported.operators.items() if op in integers} == integers
    assert not FLOAT_WEIGHTED & set(exported.operators)
    assert "DequantizeLinear" not in exported.operators or exported.operators["Pad"] == 2
    assert distance(exported.fused[0], exported.plain[0]) < 0.03
    assert distance(exported.fused[0], exported.floats[0]) < 0.2
    runner = ort.InferenceSession(str(exported.path))
    for batch in (1, 3):
        assert runner.run(None, {"input": images[:batch]})[0].shape == (batch, exported.floats[0].shape[1])


CONV = {"w": normal(1, 4, 4, 3, 3), "b": normal(2, 4), "v": normal(3, 4, 4, 3, 3)}


@pytest.mark.parametrize(
    ("inputs", "nodes", "weights", "operators"),
    [
        ("float[n,4,8,8] x", "y = Conv(x, w, b)", CONV, {"QLinearConv": 1}),
        ("float[n,4,8,8] x", "c = Conv(x, w, b) r = Relu(c) y = Conv(r, v)", CONV, {"QLinearConv": 2}),
        (
            "float[n,4,8,8] x",
            "c = Conv(x, w, b) r = Clip(c, lo, hi) y = Conv(r, v)",
            CONV | {"lo": np.zeros((), np.float32), "hi": np.full((), 6, np.float32)},
            {"QLinearConv": 2},
        ),
        (
            "float[n,4,8,8] x",
            "c = Conv(x, w, b) r = Clip(c, lo, hi) y = Conv(r, v)",
            CONV | {"lo": np.full((), -0.7, np.float32), "hi": np.full((), 0.7, np.float32)},
            {"QLinearConv": 2},
        ),
        (
            "float[n,4,8,8] x",
            "c = Conv <group = 4> (x, d, b) r = Relu(c) y = Conv <group = 2> (r, k)",
            CONV | {"d": normal(4, 4, 1, 3, 3), "k": normal(5, 6, 2, 3, 3)},
            {"QLinearConv": 2},
        ),
        (
            "float[n,4,9] x",
            "c = Conv(x, d, b) r = Relu(c) y = Conv(r, k)",
            CONV | {"d": normal(4, 4, 4, 3), "k": normal(5, 6, 4, 3)},
            {"QLinearConv": 2},
        ),
        (
            "float[n,4,8,8] x",
            "c = Conv(x, w) r = Relu(c) m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r) y = Conv(m, v)",
            CONV,
            {"QLinearConv": 2, "MaxPool": 1},
        ),
        (
            "float[n,4,8,8] x",
            "c = Conv(x, w) d = Conv(x, v) k = Concat <axis = 1> (c, d) y = Conv(k, u)",
            CONV | {"u": normal(4, 3, 8, 3, 3)},
            {"QLinearConv": 3, "QLinearConcat": 1},
        ),
        (
            "float[n,4,8,8] x",
            "c = Conv(x, w) r = Relu(c) d = Conv(x, v) k = Concat <axis = 1> (r, d) y = Conv(k, u)",
            CONV | {"u": normal(4, 3, 8, 3, 3)},
            {"QLinearConv": 3, "QLinearConcat": 1},
        ),
        (
            "float[n,4,8,8] x",
            """c = Conv(x, w) r = Relu(c) p = GlobalAveragePool(r) q = Conv(p, k) s = Sigmoid(q) m = Mul(r, s)
               l = LeakyRelu(m) z = Resize <mode = "nearest"> (l, , scales) y = Conv(z, v)""",
            CONV | {"k": normal(4, 4, 4, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32)},
            {"QLinearConv": 3, "QLinearGlobalAveragePool": 1, "QLinearSigmoid": 1, "QLinearMul": 1}
            | {"QLinearLeakyRelu": 1, "Resize": 1},
        ),
        (
            "float[n,4,8,8] x",
            "c = Conv <pads = [1,1,1,1]> (x, w, b) r = Relu(c) y = Conv(r, w, b)",
            CONV,
            {"QLinearConv": 2},
        ),
        (
            "float[n,4,8,8] x",
            """c = Conv(x, w) d, e = Split <axis = 1> (c, halves) k = Conv(d, h) l = Conv(e, h)
               y = Concat <axis = 1> (k, l)""",
            CONV | {"halves": np.array([2, 2]), "h": normal(6, 3, 2, 3, 3)},
            {"QLinearConv": 3, "Split": 1},
        ),
        (
            "float[n,20] x",
            "c = Gemm(x, g, k) r = Relu(c) y = Gemm(r, h, b)",
            {"g": normal(1, 20, 30), "k": normal(2, 1, 30), "h": normal(3, 30, 4), "b": normal(4, 4)},
            {"QGemm": 2},
        ),
        (
            "float[n,20] x",
            "c = Gemm <transB = 1> (x, g, k) r = Relu(c) y = Gemm <transB = 1> (r, h)",
            {"g": normal(1, 30, 20), "k": normal(2, 30), "h": normal(3, 4, 30)},
            {"QGemm": 2},
        ),
        (
            "float[n,5,20] x",
            """q = MatMul(x, g) k = MatMul(x, h) t = Transpose <perm = [0, 2, 1]> (k) s = MatMul(q, t) p = Softmax(s)
               v = MatMul(x, f) o = MatMul(p, v) y = MatMul(o, e)""",
            {"g": normal(1, 20, 8), "h": normal(2, 20, 8), "f": normal(3, 20, 8), "e": normal(4, 8, 6)},
            {"QLinearMatMul": 4, "MatMulIntegerToFloat": 2, "Softmax": 1},
        ),
    ],
    ids=[
        *("conv-output", "relu", "clip", "hard-tanh", "grouped", "conv1d", "max-pool", "concat", "concat-relu", "se"),
        *("shared-weight", "split", "gemm", "gemm-transposed", "attention"),
    ],
)
def test_onnx_runtime_fuses_everything(
    model_of: ModelOf, tmp_path: Path, inputs: str, nodes: str, weights: Arrays, operators: dict[str, int]
) -> None:
    dims = ",".join("abcd"[: inputs.count(",") + 1])
    proto = model_of(inputs, f"float[{dims}] y", nodes, weights)
    shape = [dim.dim_value or 2 for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    exported = quantize(proto, {"x": normal(9, *shape) * 3}, tmp_path)
    assert {op: exported.operators[op] for op in operators} == operators
    assert not FLOAT_WEIGHTED & set(exported.operators)
    assert exported.steps() < 1.01
    spread = np.abs(exported.floats[0]).max()
    assert np.abs(exported.fused[0] - exported.floats[0]).max() < 0.06 * spread


def test_what_has_no_integer_kernel_stays_float(model_of: ModelOf, tmp_path: Path) -> None:
    weights = CONV | {"t": normal(4, 4, 5, 3, 3), "u": normal(5, 2, 5, 3, 3)}
    proto = model_of(
        "float[n,4,8,8] x", "float[a,b,c,d] y", "c = Conv(x, w) d = ConvTranspose(c, t) y = Conv(d, u)", weights
    )
    exported = quantize(proto, {"x": normal(9, 2, 4, 8, 8)}, tmp_path)
    assert FLOAT_WEIGHTED & set(exported.operators) == {"ConvTranspose"}
    assert [entry[1] for entry in exported.placement.left_float] == ["ConvTranspose"]


@pytest.mark.parametrize("attributes", ["ceil_mode = 1, count_include_pad = 1", "dilations = [2, 2]"])
def test_pooling_that_the_runtime_gets_wrong_in_integers_stays_float(
    model_of: ModelOf, tmp_path: Path, attributes: str
) -> None:
    nodes = f"""c = Conv(x, w) p = AveragePool <kernel_shape = [2, 2], strides = [2, 2], {attributes}> (c)
                t = Transpose <perm = [0, 1, 3, 2]> (p) y = Conv(t, k)"""
    weights = CONV | {"k": normal(5, 3, 4, 1, 1)}
    proto = model_of("float[n,4,9,9] x", "float[a,b,c,d] y", nodes, weights, opset=19)
    exported = quantize(proto, {"x": normal(9, 2, 4, 9, 9)}, tmp_path)
    assert exported.operators["AveragePool"] == exported.operators["QLinearConv"] == 1
    assert distance(exported.fused[0], exported.floats[0]) < 0.02


def test_a_gemm_by_hand(model_of: ModelOf, tmp_path: Path) -> None:
    """Integers, scales and the result, worked out on paper.

    x in steps of 0.1 from zero point 0; weight columns in steps of 0.01 and 0.02; bias in steps of their products.
    """
    weights = {"w": np.array([[1.27, 0.013], [-0.5, -2.54]], np.float32), "b": np.array([0.0104, -1.0], np.float32)}
    model = load(model_of("float[n,2] x", "float[n,2] y", "y = Gemm(x, w, b)", weights))
    encodings = {"x": Encoding.of_range(Range(0, 25.5), U8)} | encodings_of_weights(model, place(model, CPU))
    path = tmp_path / "model.onnx"
    Qdq().export(model, encodings, path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    np.testing.assert_array_equal(stored["w_quantized"], np.array([[127, 1], [-50, -127]], np.int8))
    np.testing.assert_array_equal(stored["b_quantized"], np.array([10, -500], np.int32))
    assert [stored[name].dtype.name for name in ("w_quantized", "b_quantized")] == ["int8", "int32"]
    assert stored["x_zero_point"].dtype.name == "uint8"
    assert stored["x_zero_point"].shape == stored["x_scale"].shape == ()
    # x = 0.34, 26 -> 3, 255: columns (3*127 - 255*50 + 10) * 0.001 and (3*1 - 255*127 - 500) * 0.002.
    for level in (DISABLED, EXTENDED):
        (found,) = session(path, level).run(None, {"x": np.array([[0.34, 26.0]], np.float32)})
        np.testing.assert_allclose(found, [[-12.359, -65.764]], rtol=1e-5)


def test_one_quantizer_serves_all_readers_and_the_output(model_of: ModelOf, tmp_path: Path) -> None:
    nodes = "c = Conv <pads = [1,1,1,1]> (x, w, b) r = Relu(c) y = Conv(r, v) z = Exp(r)"
    proto = model_of("float[n,4,8,8] x", "float[n,4,6,6] y, float[n,4,8,8] r, float[n,4,8,8] z", nodes, CONV)
    exported = quantize(proto, {"x": normal(9, 2, 4, 8, 8)}, tmp_path)
    graph = onnx.load(exported.path).graph
    assert [value.name for value in graph.output] == ["y", "r", "z"]
    producers = {name: node for node in graph.node for name in node.output}
    assert producers["r"].op_type == producers["y"].op_type == "DequantizeLinear"
    assert [next(node for node in graph.node if node.op_type == op).input[0] for op in ("Exp",)] == ["r"]
    assert Counter(node.op_type for node in graph.node)["QuantizeLinear"] == 3
    integers = exported.plain[1] / exported.encodings["r"].scale
    np.testing.assert_allclose(integers, np.rint(integers), atol=1e-4)
    assert exported.operators["QLinearConv"] == 2


def test_names_metadata_and_batch_are_kept(tmp_path: Path, model_of: ModelOf) -> None:
    proto = model_of("float[batch,4,8,8] x", "float[batch,4,6,6] y", "y = Conv(x, w, b)", CONV)
    onnx.helper.set_model_props(proto, {"labels": "cat,dog"})
    proto.producer_name, proto.doc_string, proto.model_version = "maker", "two animals", 7
    exported = quantize(proto, {"x": normal(9, 2, 4, 8, 8)}, tmp_path)
    written = onnx.load(exported.path)
    assert {entry.key: entry.value for entry in written.metadata_props} == {"labels": "cat,dog"}
    assert (written.producer_name, written.doc_string, written.model_version) == ("maker", "two animals", 7)
    assert [(entry.domain, entry.version) for entry in written.opset_import] == [("", 17)]
    assert (written.ir_version, written.graph.name) == (8, "graph")
    assert [onnx.helper.printable_value_info(v) for v in (*written.graph.input, *written.graph.output)] == [
        "%x[FLOAT, batchx4x8x8]",
        "%y[FLOAT, batchx4x6x6]",
    ]
    for batch in (1, 5):
        assert len(session(exported.path, EXTENDED).run(None, {"x": normal(1, batch, 4, 8, 8)})[0]) == batch


def test_the_model_that_is_handed_over_stays_as_it_is(model_of: ModelOf, tmp_path: Path) -> None:
    model = load(model_of("float[n,4,8,8] x", "float[n,4,6,6] y", "y = Conv(x, w, b)", CONV))
    before = to_bytes(model)
    encodings = {name: Encoding.of_range(Range(-1, 1), U8) for name in "xy"}
    encodings |= encodings_of_weights(model, place(model, CPU))
    Qdq().export(model, encodings, tmp_path / "model.onnx")
    assert to_bytes(model) == before


def test_names_that_clash_are_numbered(model_of: ModelOf, tmp_path: Path) -> None:
    nodes = "x_scale = Relu(x) w_quantized = Conv(x_scale, w) y = Neg(w_quantized)"
    proto = model_of("float[n,4,8,8] x", "float[n,4,6,6] y", nodes, CONV)
    exported = quantize(proto, {"x": normal(9, 2, 4, 8, 8)}, tmp_path)
    graph = onnx.load(exported.path).graph
    names = [name for node in graph.node for name in node.output] + [tensor.name for tensor in graph.initializer]
    assert len(set(names)) == len(names)
    assert "w_quantized_1" in names


def test_initializers_that_are_listed_as_inputs_become_constants(model_of: ModelOf, tmp_path: Path) -> None:
    inputs = "float[n,4,8,8] x, float[4,4,3,3] w, float[4] b, float[4,4,3,3] v, float lo, float hi"
    weights = CONV | {"lo": np.zeros((), np.float32), "hi": np.ones((), np.float32)}
    proto = model_of(inputs, "float[a,b,c,d] y", "c = Conv(x, w, b) r = Clip(c, lo, hi) y = Conv(r, v)", weights)
    exported = quantize(proto, {"x": normal(9, 2, 4, 8, 8)}, tmp_path)
    assert [value.name for value in onnx.load(exported.path).graph.input] == ["x"]
    assert exported.operators["QLinearConv"] == 2


def test_a_weight_that_others_read_keeps_its_float_form_for_them(model_of: ModelOf, tmp_path: Path) -> None:
    nodes = "e = Gather(w, rows) r = Relu(e) y = Gemm <transB = 1> (r, w)"
    weights = {"w": normal(1, 7, 4)}
    proto = model_of("int64[n] rows", "float[n,7] y", nodes, weights)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("x", 1, [1]))
    exported = quantize(proto, {"rows": np.array([3, 1]), "x": np.zeros(1, np.float32)}, tmp_path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(exported.path).graph.initializer}
    np.testing.assert_array_equal(stored["w"], weights["w"])
    assert stored["w_quantized"].dtype == np.int8
    assert exported.operators["QGemm"] == 1


def test_the_weight_makes_room_for_a_bias_that_would_overflow(model_of: ModelOf, tmp_path: Path) -> None:
    weights = {"w": np.array([[1e-12, 1.0]], np.float32), "b": np.array([3.0, 0.5], np.float32)}
    model = load(model_of("float[n,1] x", "float[n,2] y", "y = Gemm(x, w, b)", weights))
    encodings = {"x": Encoding.of_range(Range(0, 2.55), U8)} | encodings_of_weights(model, place(model, CPU))
    Qdq().export(model, encodings, tmp_path / "model.onnx")
    for level in (DISABLED, EXTENDED):
        (found,) = session(tmp_path / "model.onnx", level).run(None, {"x": np.ones((1, 1), np.float32)})
        np.testing.assert_allclose(found, [[3.0, 1.5]], atol=0.01)


def test_large_weights_go_beside_the_model(model_of: ModelOf, tmp_path: Path) -> None:
    model = load(model_of("float[n,64] x", "float[n,64] y", "y = Gemm(x, w)", {"w": normal(1, 64, 64)}))
    encodings = {"x": Encoding.of_range(Range(-1, 1), U8)} | encodings_of_weights(model, place(model, CPU))
    path, data = Qdq(external_data_above=1000).export(model, encodings, tmp_path / "model.onnx").files
    assert (path, data) == (tmp_path / "model.onnx", tmp_path / "model.onnx.data")
    assert data.stat().st_size >= 64 * 64
    Qdq().export(model, encodings, tmp_path / "whole.onnx")
    feeds = {"x": normal(2, 3, 64)}
    (found,), (expected,) = (session(p, EXTENDED).run(None, feeds) for p in (path, tmp_path / "whole.onnx"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "encoding", "message"),
    [
        ("z", Encoding.of_range(Range(0, 1), U8), "tensor 'z': it has an encoding, but the model has no tensor"),
        (
            "x",
            Encoding.of_range(Range(0, 1), QuantType(32, signed=True, symmetric=True)),
            "tensor 'x': its encoding is s32, axis None; a QDQ file takes 2 to 16 bits per tensor",
        ),
        (
            "w",
            Encoding.of_bounds(-np.ones(4), np.ones(4), QuantType(16, signed=True, symmetric=True), 0),
            "weight 'w': its encoding is s16; a QDQ file takes at most 8 bits",
        ),
    ],
)
def test_encodings_that_do_not_fit_are_refused(
    model_of: ModelOf, tmp_path: Path, name: str, encoding: Encoding, message: str
) -> None:
    model = load(model_of("float[n,4,8,8] x", "float[n,4,6,6] y", "y = Conv(x, w, b)", CONV))
    with pytest.raises(ModelError, match=message):
        Qdq().export(model, {name: encoding}, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(model_of: ModelOf, tmp_path: Path) -> None:
    model = load(model_of("float[n,4,8,8] x", "float[n,4,6,6] y", "y = Conv(x, w, b)", CONV))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        Qdq().export(model, {}, tmp_path / "file" / "model.onnx")
