"""Rewriting for integer kernels: the function and the names stay the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]

CPU = find_target("cpu")

LEAKY = ("Conv", "LeakyRelu")

NORMALIZATION = {
    "s": np.array([1.0, -2.0, 0.5, 3.0], np.float32),
    "b": np.array([0.1, 0.2, -0.3, 0.0], np.float32),
    "m": np.array([0.0, 1.0, -1.0, 2.0], np.float32),
    "v": np.array([1.0, 0.25, 4.0, 2.0], np.float32),
}


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def check(proto: onnx.ModelProto, images: NDArray[np.float32], *operators: str) -> ir.Model:
    """Lower ``proto``; it must then have these operators, the same outputs and a clean bill."""
    model = load(proto)
    lower(model, CPU)
    assert [node.op_type for node in model.graph] == list(operators)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    feeds: dict[str, NDArray[Any]] = {"x": images}
    found = ort.InferenceSession(to_bytes(model)).run(None, feeds)
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, feeds)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    return model


def test_a_normalization_that_is_left_becomes_a_depthwise_convolution(model_of: ModelOf) -> None:
    nodes = "n = BatchNormalization <epsilon = 0.01> (x, s, b, m, v) r = Relu(n) y = Conv(r, w)"
    proto = model_of(
        "float[n,4,5,5] x", "float[n,6,3,3] y, float[n,4,5,5] n", nodes, NORMALIZATION | {"w": normal(1, 6, 4, 3, 3)}
    )
    model = check(proto, normal(0, 2, 4, 5, 5), "Conv", "Relu", "Conv")
    assert model.graph[0].outputs[0].name == "n"
    assert model.graph[0].attributes.get_int("group", 1) == 4


@pytest.mark.parametrize(
    ("inputs", "nodes"),
    [
        ("float[n,4,5,5] x", "y = BatchNormalization(x, s, b, m, v)"),
        ("float[n,4,5,5] x", "n = BatchNormalization(x, s, b, m, v) y = Softmax(n)"),
        ("float[n,4] x", "n = BatchNormalization(x, s, b, m, v) y = Gemm(n, g)"),
    ],
    ids=["graph-output", "float-reader", "no-image"],
)
def test_a_normalization_that_no_integer_kernel_reads_stays(model_of: ModelOf, inputs: str, nodes: str) -> None:
    outs = inputs.replace(" x", " y")
    model = load(model_of(inputs, outs, nodes, NORMALIZATION | {"g": normal(1, 4, 4)}))
    assert lower(model, CPU) == ()


@pytest.mark.parametrize(
    ("opset", "nodes", "operators"),
    [
        (13, "p = ReduceMean <axes = [2, 3], keepdims = 0> (x)", ["GlobalAveragePool", "Flatten"]),
        (13, "p = ReduceMean <axes = [-1, -2], keepdims = 0> (x)", ["GlobalAveragePool", "Flatten"]),
        (18, "p = ReduceMean <keepdims = 0> (x, axes)", ["GlobalAveragePool", "Flatten"]),
        (18, "q = ReduceMean(x, axes) p = Flatten(q)", ["GlobalAveragePool", "Flatten"]),
    ],
)
def test_a_mean_over_pixels_becomes_pooling(model_of: ModelOf, opset: int, nodes: str, operators: list[str]) -> None:
    weights = {"g": normal(1, 4, 3), "axes": np.array([2, 3])}
    proto = model_of("float[n,4,5,5] x", "float[n,3] y", f"{nodes} y = Gemm(p, g)", weights, opset=opset)
    check(proto, normal(0, 2, 4, 5, 5), *operators, "Gemm")


@pytest.mark.parametrize(
    ("inputs", "nodes"),
    [
        ("float[n,4,5,5] x", "y = ReduceMean <axes = [2], keepdims = 0> (x)"),
        ("float[n,4,5,5] x", "y = ReduceMean <axes = [1, 2]> (x)"),
        ("float[n,4,5,5] x", "y = ReduceMean(x)"),
        ("float[n,4,5] x", "y = ReduceMean <axes = [1, 2]> (x)"),
    ],
)
def test_other_means_stay(model_of: ModelOf, inputs: str, nodes: str) -> None:
    assert lower(load(model_of(inputs, "float y", nodes, {})), CPU) == ()


@pytest.mark.parametrize("bias", [False, True])
def test_a_last_convolution_of_one_pixel_becomes_gemm(model_of: ModelOf, bias: bool) -> None:
    nodes = f"p = GlobalAveragePool(x) c = Conv(p, w{', b' if bias else ''}) f = Flatten(c) y = Softmax(f)"
    weights = {"w": normal(1, 6, 4, 1, 1)} | ({"b": normal(2, 6)} if bias else {})
    proto = model_of("float[n,4,5,5] x", "float[n,6] y, float[n,6,1,1] c", nodes, weights)
    operators = ("GlobalAveragePool", "Flatten", "Gemm", "Unsqueeze", "Flatten", "Softmax")
    model = check(proto, normal(0, 3, 4, 5, 5), *operators)
    assert [value.name for value in model.graph.outputs] == ["y", "c"]


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Conv(x, w)",
        "p = GlobalAveragePool(x) c = Conv(p, w) r = Relu(c) y = Mul(r, x) z = Conv(y, w)",
        "p = GlobalAveragePool(x) y = Conv <group = 4> (p, d)",
        "p = GlobalAveragePool(x) y = Conv <pads = [1, 1, 1, 1]> (p, w)",
    ],
    ids=["pixels", "weighted-after", "grouped", "padded"],
)
def test_other_convolutions_stay(model_of: ModelOf, nodes: str) -> None:
    weights = {"w": normal(1, 4, 4, 1, 1), "d": normal(2, 4, 1, 1, 1)}
    model = load(model_of("float[n,4,5,5] x", "float[n,4,h,k] y", nodes, weights))
    assert lower(model, CPU) == ()


@pytest.mark.parametrize("name", ["akamaster_resnet20_cifar10", "kd_WRN16_1_cifar10", "mobilenet_v1_075_224"])
def test_real_models_compute_the_same(zoo: Path, name: str) -> None:
    model = load(zoo / f"models/{name}_bn.onnx")
    images = normal(0, 1, *sample_shape(model))
    (expected,) = ort.InferenceSession(to_bytes(model)).run(None, {"input": images})
    fold_batch_normalization(model)
    assert lower(model, CPU)
    (found,) = ort.InferenceSession(to_bytes(model)).run(None, {"input": images})
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert not {node.op_type for node in model.graph} & {"BatchNormalization", "ReduceMean"}


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (4, 1, 1)])
def test_a_prelu_of_one_slope_becomes_leaky(model_of: ModelOf, shape: tuple[int, ...]) -> None:
    weights = {"w": normal(1, 4, 4, 3, 3), "a": np.full(shape, 0.25, np.float32)}
    nodes = "c = Conv(x, w) y = PRelu(c, a)"
    model = check(model_of("float[n,4,5,5] x", "float[n,4,3,3] y", nodes, weights), normal(0, 2, 4, 5, 5), *LEAKY)
    assert model.graph[1].attributes.get_float("alpha", 0.0) == 0.25
    assert model.graph.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("slopes", "operators"),
    [
        ((-0.1, 0.2, 0.3, 1.0), ("Mul", "Max")),
        ((1.5, 2.0, 1.0, 3.0), ("Mul", "Min")),
        ((0.1, 0.2, -0.3, 1.5), ("Mul", "Max", "Mul", "Min")),
    ],
)
def test_a_prelu_of_several_slopes_becomes_a_product_and_the_larger(
    model_of: ModelOf, slopes: tuple[float, ...], operators: tuple[str, ...]
) -> None:
    weights = {"w": normal(1, 4, 4, 3, 3), "a": np.array(slopes, np.float32).reshape(4, 1, 1)}
    nodes = "c = Conv(x, w) y = PRelu(c, a)"
    check(model_of("float[n,4,5,5] x", "float[n,4,3,3] y", nodes, weights), normal(0, 2, 4, 5, 5), "Conv", *operators)


@pytest.mark.parametrize("target", ["tensorrt", "nnapi", "qnn"])
def test_prelu_stays_where_leaky_has_no_integer_kernel_or_prelu_has_one(model_of: ModelOf, target: str) -> None:
    weights = {"w": normal(1, 4, 4, 3, 3), "a": np.full(1, 0.25, np.float32)}
    model = load(model_of("float[n,4,5,5] x", "float[n,4,3,3] y", "c = Conv(x, w) y = PRelu(c, a)", weights))
    lower(model, find_target(target))
    assert "PRelu" in [node.op_type for node in model.graph]


def test_a_residual_sum_is_not_fused_with_the_normalization_after_it(tmp_path: Path) -> None:
    shape = "float[n,3,8]"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({shape} x) => ({shape} y) '
        "<float[8] s = {1, 1, 1, 1, 1, 1, 1, 1}, float[8] b = {0, 0, 0, 0, 0, 0, 0, 0}> "
        "{ t = Tanh(x) a = Add(x, t) y = LayerNormalization <axis = -1> (a, s, b) }"
    )
    model = check(proto, normal(0, 2, 3, 8), "Tanh", "Sum", "LayerNormalization")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    kernels = []
    for source in (proto.SerializeToString(), to_bytes(model)):
        ort.InferenceSession(source, options, ["CPUExecutionProvider"])
        kernels.append([node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node])
    assert kernels == [["Tanh", "SkipLayerNormalization"], ["Tanh", "Sum", "LayerNormalization"]]
