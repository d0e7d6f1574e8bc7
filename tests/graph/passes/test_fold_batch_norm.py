"""BatchNormalization folded away: the function stays the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.loading import load, load_notes
from dfq_deploy.graph.passes.fold_batch_norm import clone, fold_batch_normalization
from dfq_deploy.graph.query import batch_normalizations
from dfq_deploy.graph.writing import to_bytes

Weights = dict[str, NDArray[Any]]

ModelOf = Callable[..., onnx.ModelProto]

ZOO = {
    "akamaster_resnet20_cifar10": (19, 0),
    "akamaster_resnet56_cifar10": (55, 0),
    "kd_resnet20_cifar10": (22, 0),
    "kd_WRN16_1_cifar10": (6, 7),
    "mobilenet_v1_075_224": (27, 0),
}
"""Model -> BatchNormalization nodes that can be folded, and that cannot (counted in the files)."""


def outputs(model: ir.Model | onnx.ModelProto, feeds: Weights) -> list[NDArray[Any]]:
    data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else to_bytes(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    found: list[NDArray[Any]] = ort.InferenceSession(data, options).run(None, feeds)
    return found


def normalization(name: str, channels: int, seed: int, dtype: type = np.float32) -> Weights:
    rng = np.random.default_rng(seed)
    values = {"s": rng.normal(1, 1, channels), "b": rng.normal(0, 1, channels), "m": rng.normal(0, 1, channels)}
    values["v"] = rng.uniform(0.1, 3, channels)
    return {f"{name}{key}": value.astype(dtype) for key, value in values.items()}


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize("name", ZOO)
def test_real_models_compute_the_same(zoo: Path, name: str) -> None:
    model = load(zoo / f"models/{name}_bn.onnx")
    folded = clone(model)
    count, left = ZOO[name]
    assert len(fold_batch_normalization(folded)) == count
    assert len(batch_normalizations(folded)) == left
    images = normal(0, 2, *sample_shape(model))
    (expected,), (found,) = outputs(model, {"input": images}), outputs(folded, {"input": images})
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


CONV = "c = Conv(x, w) y = BatchNormalization <epsilon = 0.01> (c, ns, nb, nm, nv)"


@pytest.mark.parametrize(
    ("nodes", "weights", "channels"),
    [
        (CONV, {"w": normal(1, 6, 4, 3, 3)}, 6),
        (CONV.replace("w)", "w, b)"), {"w": normal(1, 6, 4, 3, 3), "b": normal(2, 6)}, 6),
        (CONV.replace("(x, w)", "<group = 2> (x, w, b)"), {"w": normal(1, 6, 2, 3, 3), "b": normal(2, 6)}, 6),
        (CONV.replace("(x, w)", "<group = 4> (x, w)"), {"w": normal(1, 8, 1, 3, 3)}, 8),
        (CONV.replace("Conv", "ConvTranspose"), {"w": normal(1, 4, 6, 3, 3)}, 6),
        (
            CONV.replace("Conv(x, w)", "ConvTranspose <group = 2> (x, w, b)"),
            {"w": normal(1, 4, 3, 3, 3), "b": normal(2, 6)},
            6,
        ),
    ],
    ids=["plain", "bias", "grouped", "depthwise", "transposed", "transposed-grouped"],
)
def test_convolutions(model_of: ModelOf, nodes: str, weights: Weights, channels: int) -> None:
    proto = model_of("float[n,4,7,7] x", "float[n,m,h,k] y", nodes, weights | normalization("n", channels, 3))
    model = load(proto)
    assert fold_batch_normalization(model) == ("BatchNormalization_1",)
    assert [node.op_type for node in model.graph] == [model.graph[0].op_type]
    feeds = {"x": normal(5, 3, 4, 7, 7)}
    np.testing.assert_allclose(outputs(model, feeds)[0], outputs(proto, feeds)[0], atol=1e-5)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias_shape", [None, (6,), (1, 6), (1,), (3, 6)])
def test_gemm(model_of: ModelOf, transposed: int, bias_shape: tuple[int, ...] | None) -> None:
    weights = {"w": normal(1, 6, 5) if transposed else normal(1, 5, 6)} | normalization("n", 6, 3)
    arguments = "x, w" if bias_shape is None else "x, w, b"
    if bias_shape is not None:
        weights["b"] = normal(2, *bias_shape)
    gemm = f"c = Gemm <alpha = 0.5, beta = 2.0, transB = {transposed}> ({arguments})"
    proto = model_of("float[3,5] x", "float[3,6] y", f"{gemm} y = BatchNormalization(c, ns, nb, nm, nv)", weights)
    model = load(proto)
    assert len(fold_batch_normalization(model)) == 1
    feeds = {"x": normal(5, 3, 5)}
    np.testing.assert_allclose(outputs(model, feeds)[0], outputs(proto, feeds)[0], atol=1e-5)


def test_two_in_a_row_fold_into_one_convolution(model_of: ModelOf) -> None:
    nodes = "c = Conv(x, w) d = BatchNormalization(c, ns, nb, nm, nv) y = BatchNormalization(d, ks, kb, km, kv)"
    weights = {"w": normal(1, 6, 4, 3, 3)} | normalization("n", 6, 3) | normalization("k", 6, 4)
    proto = model_of("float[n,4,7,7] x", "float[n,6,5,5] y", nodes, weights)
    model = load(proto)
    assert fold_batch_normalization(model) == ("BatchNormalization_1", "BatchNormalization_2")
    feeds = {"x": normal(5, 3, 4, 7, 7)}
    np.testing.assert_allclose(outputs(model, feeds)[0], outputs(proto, feeds)[0], atol=1e-5)


def test_shared_weights_are_copied_and_the_rest_is_dropped(model_of: ModelOf) -> None:
    nodes = """c = Conv(x, w, b) d = BatchNormalization(c, ns, nb, nm, nv)
               e = Conv(x, w, b) f = BatchNormalization(e, ks, kb, km, kv) y = Concat <axis = 1> (d, f)"""
    weights = {"w": normal(1, 6, 4, 3, 3), "b": normal(2, 6)} | normalization("n", 6, 3) | normalization("k", 6, 4)
    proto = model_of("float[n,4,7,7] x", "float[n,12,5,5] y", nodes, weights)
    model = load(proto)
    assert len(fold_batch_normalization(model)) == 2
    assert len(model.graph.initializers) == 4
    feeds = {"x": normal(5, 3, 4, 7, 7)}
    np.testing.assert_allclose(outputs(model, feeds)[0], outputs(proto, feeds)[0], atol=1e-5)


def test_output_and_value_names_stay(model_of: ModelOf) -> None:
    weights = {"w": normal(1, 6, 4, 3, 3)} | normalization("n", 6, 3)
    proto = model_of("float[n,4,7,7] x", "float[n,6,5,5] y, float[n,6,5,5] r", f"{CONV} r = Relu(y)", weights)
    model = load(proto)
    fold_batch_normalization(model)
    assert [value.name for value in model.graph.outputs] == ["y", "r"]
    assert [value.name for node in model.graph for value in node.outputs] == ["y", "r"]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


def test_overridable_parameters_leave_the_inputs_too(model_of: ModelOf) -> None:
    weights = {"w": normal(1, 6, 4, 3, 3)} | normalization("n", 6, 3)
    inputs = "float[n,4,7,7] x, float[6] ns, float[6] nb, float[6] nm, float[6] nv"
    model = load(model_of(inputs, "float[n,6,5,5] y", CONV, weights))
    fold_batch_normalization(model)
    assert [value.name for value in model.graph.inputs] == ["x"]


@pytest.mark.parametrize(
    "nodes",
    [
        "r = Relu(x) y = BatchNormalization(r, ns, nb, nm, nv)",
        f"{CONV} z = Relu(c)",
        "m = ReduceMax <keepdims = 0> (x) v = Mul(w, m) c = Conv(x, v) y = BatchNormalization(c, ns, nb, nm, nv)",
        "c = Conv(x, w, bias) y = BatchNormalization(c, ns, nb, nm, nv)",
    ],
    ids=["pre-activation", "read-elsewhere", "computed-weight", "fed-bias"],
)
def test_what_cannot_be_folded_stays(model_of: ModelOf, nodes: str) -> None:
    weights = {"w": normal(1, 4, 4, 3, 3)} | normalization("n", 4, 3)
    outs = "float[n,4,h,k] y" + (", float[n,4,h,k] z" if " z " in nodes else "")
    model = load(model_of("float[n,4,7,7] x, float[4] bias", outs, nodes, weights))
    assert fold_batch_normalization(model) == ()
    assert len(batch_normalizations(model)) == 1


def test_a_normalized_graph_output_stays(model_of: ModelOf) -> None:
    weights = {"w": normal(1, 6, 4, 3, 3)} | normalization("n", 6, 3)
    model = load(model_of("float[n,4,7,7] x", "float[n,6,5,5] y, float[n,6,5,5] c", CONV, weights))
    assert fold_batch_normalization(model) == ()


def test_training_mode_is_left_when_the_model_is_loaded(model_of: ModelOf) -> None:
    nodes = CONV.replace("epsilon = 0.01", "training_mode = 1").replace("y =", "y, p, q =")
    weights = {"w": normal(1, 6, 4, 3, 3)} | normalization("n", 6, 3)
    model = load(model_of("float[n,4,7,7] x", "float[n,6,5,5] y", nodes, weights))
    assert "training mode" in load_notes(model)[0]
    assert len(fold_batch_normalization(model)) == 1


def test_identities_of_parameters_are_resolved(model_of: ModelOf) -> None:
    nodes = "alias = Identity(ns) c = Conv(x, w) y = BatchNormalization(c, alias, nb, nm, nv)"
    weights = {"w": normal(1, 6, 4, 3, 3)} | normalization("n", 6, 3)
    proto = model_of("float[n,4,7,7] x", "float[n,6,5,5] y", nodes, weights)
    model = load(proto)
    assert len(fold_batch_normalization(model)) == 1
    assert [node.op_type for node in model.graph] == ["Conv"]
    feeds = {"x": normal(5, 3, 4, 7, 7)}
    np.testing.assert_allclose(outputs(model, feeds)[0], outputs(proto, feeds)[0], atol=1e-5)


@pytest.mark.parametrize(("dtype", "text", "tolerance"), [(np.float64, "double", 1e-12), (np.float16, "float16", 0.02)])
def test_other_float_types_are_kept(model_of: ModelOf, dtype: type, text: str, tolerance: float) -> None:
    weights: Weights = {"w": normal(1, 6, 4, 3, 3).astype(dtype)} | normalization("n", 6, 3, dtype)
    proto = model_of(f"{text}[n,4,7,7] x", f"{text}[n,6,5,5] y", CONV.replace("0.01", "0.0"), weights)
    model = ir.from_proto(proto)  # load would make it float32
    fold_batch_normalization(model)
    assert {value.dtype for value in model.graph.initializers.values()} == {ir.DataType.from_numpy(np.dtype(dtype))}
    images: NDArray[Any] = normal(5, 1, 4, 7, 7).astype(dtype)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": images})
    (found,) = ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": images})
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


def test_folding_a_clone_leaves_the_model_alone(model_of: ModelOf) -> None:
    weights = {"w": normal(1, 6, 4, 3, 3)} | normalization("n", 6, 3)
    model = load(model_of("float[n,4,7,7] x", "float[n,6,5,5] y", CONV, weights))
    before = to_bytes(model)
    fold_batch_normalization(clone(model))
    assert to_bytes(model) == before
