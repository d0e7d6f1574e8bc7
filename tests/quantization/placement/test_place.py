"""Where Q and DQ stand, rule by rule; the expectations are written by hand."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.quantization.placement.place import Placement, encodings_of_weights, place, unify
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]
Weights = Mapping[str, NDArray[Any]]

CPU = find_target("cpu")

IMAGE = "float[n,4,8,8] x"


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


WEIGHTS: Weights = {
    "w": ones(4, 4, 3, 3),
    "v": ones(4, 4, 3, 3),
    "b": ones(4),
    "u": ones(6, 8, 3, 3),
    "g": ones(4, 5),
    "h": ones(5, 4),
    "zero": np.zeros((), np.float32),
    "six": np.full((), 6, np.float32),
    "minus": np.full((), -1, np.float32),
    "one": np.ones((), np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "axes": np.array([2, 3]),
    "shape": np.array([0, -1]),
    "halves": np.array([2, 2]),
}


@pytest.fixture
def placed(model_of: ModelOf) -> Callable[..., Placement]:
    """Places Q and DQ in a graph of ONNX text; only the weights that it names are kept."""

    def place_text(
        nodes: str, *, target: str = "cpu", inputs: str = IMAGE, outputs: str = "float y", **more: NDArray[Any]
    ) -> Placement:
        words = set(nodes.replace(",", " ").replace("(", " ").replace(")", " ").split())
        weights = {name: array for name, array in {**WEIGHTS, **more}.items() if name in words}
        return place(load(model_of(inputs, outputs, nodes, weights)), find_target(target))

    return place_text


def groups(placement: Placement) -> list[list[str]]:
    return [sorted(group) for group in placement.shared]


def test_a_convolution_is_quantized_on_both_sides(placed: Callable[..., Placement]) -> None:
    placement = placed("y = Conv(x, w, b)")
    assert placement.activations == {"x": CPU.activation, "y": CPU.activation}
    assert placement.weights == {"w": (CPU.weight, 0)}
    assert placement.biases == {"b": ("x", "w")}
    assert (placement.shared, placement.limits, placement.left_float) == ((), {}, ())


def test_the_output_is_quantized_after_relu(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv(x, w) r = Relu(c) y = Conv(r, v)")
    assert list(placement.activations) == ["x", "r", "y"]
    assert placement.limits == {"r": (0.0, inf)}


def test_clip_bounds_the_encoding(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv(x, w) r = Clip(c, zero, six) y = Conv(r, v)")
    assert list(placement.activations) == ["x", "r", "y"]
    assert placement.limits == {"r": (0.0, 6.0)}


def test_clip_on_both_sides_leaves_half_a_step(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv(x, w) r = Clip(c, minus, one) y = Conv(r, v)")
    assert placement.limits == {"r": (-1 + 1 / 256, 1 - 1 / 256)}
    encoding = Encoding.of_range(unify({"r": Range(-1.0, 1.0)}, placement)["r"], CPU.activation)
    assert float(encoding.scale) == 2 / 256


@pytest.mark.parametrize("clip", ["Clip(c, one, six)", "Clip(c, m)"], ids=["zero-outside", "computed"])
def test_a_clip_that_is_not_folded_comes_after_the_quantization(placed: Callable[..., Placement], clip: str) -> None:
    placement = placed(f"c = Conv(x, w) m = ReduceMin <keepdims = 0> (x) r = {clip} y = Conv(r, v)")
    assert list(placement.activations) == ["x", "c", "r", "y"]


def test_an_output_that_is_read_before_and_after_relu_is_quantized_in_both_places(
    placed: Callable[..., Placement],
) -> None:
    placement = placed("c = Conv(x, w) r = Relu(c) y = Conv(r, v)", outputs="float y, float c")
    assert list(placement.activations) == ["x", "c", "r", "y"]


def test_residual_networks_add_in_integers(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv <pads = [1,1,1,1]> (x, w) a = Add(c, x) r = Relu(a) y = Conv(r, v)")
    assert list(placement.activations) == ["x", "c", "r", "y"]


def test_an_add_that_nothing_quantized_follows_stays_float(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv <pads = [1,1,1,1]> (x, w) a = Add(c, x) y = Softmax(a)")
    assert list(placement.activations) == ["x", "c"]


def test_an_add_of_a_float_tensor_stays_float_and_is_quantized_for_its_reader(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv <pads = [1,1,1,1]> (x, w) e = Exp(x) a = Add(c, e) y = Conv(a, v)")
    assert list(placement.activations) == ["x", "c", "a", "y"]


def test_an_add_of_a_constant_needs_no_encoding_of_it(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv(x, w) a = Add(c, one) y = Conv(a, v)")
    assert list(placement.activations) == ["x", "c", "a", "y"]


def test_gemm_writes_float_at_the_end(placed: Callable[..., Placement]) -> None:
    placement = placed("q = Gemm(x, g) r = Relu(q) y = Gemm(r, h, b)", inputs="float[n,4] x")
    assert list(placement.activations) == ["x", "r"]
    assert placement.weights == {"g": (CPU.weight, 1), "h": (CPU.weight, 1)}
    assert placement.biases == {"b": ("r", "h")}


def test_gemm_writes_float_also_through_reshape_and_softmax(placed: Callable[..., Placement]) -> None:
    placement = placed("q = Gemm(x, g) s = Reshape(q, shape) y = Softmax(s)", inputs="float[n,4] x")
    assert list(placement.activations) == ["x"]


def test_a_transposed_gemm_has_its_channels_first(placed: Callable[..., Placement]) -> None:
    placement = placed("y = Gemm <transB = 1> (x, h)", inputs="float[n,4] x")
    assert placement.weights == {"h": (CPU.weight, 0)}


def test_attention(placed: Callable[..., Placement]) -> None:
    nodes = """q = MatMul(x, g) k = MatMul(x, f) t = Transpose <perm = [0, 2, 1]> (k) s = MatMul(q, t)
               p = Softmax(s) z = MatMul(x, e) o = MatMul(p, z) y = MatMul(o, h)"""
    placement = placed(nodes, inputs="float[n,3,4] x", f=ones(4, 5), e=ones(4, 5))
    assert list(placement.activations) == ["x", "q", "k", "t", "p", "z", "o"]
    assert groups(placement) == [["k", "t"]]
    assert set(placement.weights) == {"g", "f", "e", "h"}


def test_a_batched_weight_has_one_scale(placed: Callable[..., Placement]) -> None:
    placement = placed("y = MatMul(x, s)", inputs="float[2,3,4] x", s=ones(2, 4, 5))
    assert placement.weights == {"s": (CPU.weight, None)}


def test_moved_values_share_one_encoding_and_its_limits(placed: Callable[..., Placement]) -> None:
    nodes = "c = Conv(x, w) r = Relu(c) m = MaxPool <kernel_shape = [2, 2]> (r) p = Pad(m, pads) y = Conv(p, v)"
    placement = placed(nodes)
    assert groups(placement) == [["m", "p", "r"]]
    assert placement.limits == dict.fromkeys("rmp", (0.0, inf))


def test_values_that_are_moved_to_a_graph_output_are_not_quantized_again(placed: Callable[..., Placement]) -> None:
    assert list(placed("c = Conv(x, w) y = Flatten(c)").activations) == ["x", "c"]


def test_quantization_goes_up_through_what_moves_values(placed: Callable[..., Placement]) -> None:
    placement = placed("e = Exp(x) m = MaxPool <kernel_shape = [2, 2]> (e) y = Conv(m, w)")
    assert list(placement.activations) == ["e", "m", "y"]
    assert groups(placement) == [["e", "m"]]


def test_second_outputs_that_nobody_reads_are_not_touched(placed: Callable[..., Placement]) -> None:
    nodes = "c = Conv(x, w) m, i = MaxPool <kernel_shape = [2, 2]> (c) d, mask = Dropout(m) y = Conv(d, v)"
    placement = placed(nodes)
    assert list(placement.activations) == ["x", "c", "m", "d", "y"]
    assert groups(placement) == [["c", "d", "m"]]


def test_second_outputs_that_are_read_keep_the_operator_in_float(placed: Callable[..., Placement]) -> None:
    nodes = "c = Conv(x, w) m, i = MaxPool <kernel_shape = [2, 2]> (c) y = Conv(m, v) z = Cast <to = 1> (i)"
    placement = placed(nodes, outputs="float y, float z")
    assert list(placement.activations) == ["x", "c", "m", "y"]
    assert groups(placement) == []


def test_padding_with_another_value_stays_float(placed: Callable[..., Placement]) -> None:
    assert groups(placed("c = Conv(x, w) p = Pad(c, pads, one) y = Conv(p, v)")) == []


def test_split_shares_with_all_its_parts(placed: Callable[..., Placement]) -> None:
    nodes = "c = Conv(x, w) d, e = Split <axis = 1> (c, halves) y = Conv(d, t) z = Exp(e)"
    placement = placed(nodes, outputs="float y, float z", t=ones(3, 2, 1, 1))
    assert groups(placement) == [["c", "d", "e"]]


def test_concat_shares_one_encoding(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv(x, w) d = Conv(x, v) k = Concat <axis = 1> (c, d) y = Conv(k, u)")
    assert groups(placement) == [["c", "d", "k"]]


def test_concat_of_differently_bounded_tensors_shares_none(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv(x, w) r = Relu(c) d = Conv(x, v) k = Concat <axis = 1> (r, d) y = Conv(k, u)")
    assert list(placement.activations) == ["x", "r", "d", "k", "y"]
    assert groups(placement) == []


def test_concats_that_follow_each_other_are_one_group(placed: Callable[..., Placement]) -> None:
    nodes = """c = Conv(x, w) d = Conv(x, v) k = Concat <axis = 1> (c, d) e = Conv <pads = [1,1,1,1]> (k, u)
               l = Concat <axis = 1> (k, e) y = Conv(l, t)"""
    assert groups(placed(nodes, t=ones(2, 14, 1, 1))) == [["c", "d", "e", "k", "l"]]


def test_squeeze_and_excitation_runs_in_integers(placed: Callable[..., Placement]) -> None:
    nodes = """c = Conv(x, w) r = Relu(c) p = GlobalAveragePool(r) q = Conv(p, t) s = Sigmoid(q) m = Mul(r, s)
               y = Conv(m, v)"""
    assert list(placed(nodes, t=ones(4, 4, 1, 1)).activations) == ["x", "r", "p", "q", "s", "m", "y"]


def test_shape_arithmetic_is_not_touched(placed: Callable[..., Placement]) -> None:
    nodes = """c = Conv(x, w) p = GlobalAveragePool(c) s = Shape(p) n = Gather(s, first) d = Concat <axis = 0> (n, rest)
               f = Reshape(p, d) y = Gemm(f, g)"""
    placement = placed(nodes, first=np.array([0]), rest=np.array([-1]))
    assert list(placement.activations) == ["x", "c", "p", "f"]


def test_a_weight_of_two_nodes_is_named_once(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv(x, w, b) r = Relu(c) y = Conv(r, w, b)")
    assert placement.weights == {"w": (CPU.weight, 0)}
    assert placement.biases == {"b": ("x", "w")}


def test_a_weight_that_is_read_along_two_axes_has_one_scale(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Gemm(x, s) r = Relu(c) y = Gemm <transB = 1> (r, s)", inputs="float[n,4] x", s=ones(4, 4))
    assert placement.weights == {"s": (CPU.weight, None)}


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("y = ConvTranspose(x, w)", "ONNX Runtime on x86 and Arm CPUs has no integer ConvTranspose"),
        ("m = ReduceMax <keepdims = 0> (x) k = Mul(w, m) y = Conv(x, k)", "its weight 'k' is computed, not a constant"),
        (
            "m = ReduceMax <keepdims = 0> (x) k = Mul(b, m) y = Conv(x, w, k)",
            "its bias 'k' is computed, not a constant",
        ),
        ("f = Flatten(x) y = Gemm <beta = 0.5> (f, s, b)", "its bias cannot be int32 with beta=0.5"),
        ("f = Flatten(x) y = Gemm(f, s, one)", "its bias 'one' of shape [] is not one value for each output"),
        ("y = MatMul(e, x)", "its input 'e' is a constant"),
        (
            "p = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1, count_include_pad = 1> (x) "
            "f = Flatten(p) y = Gemm <transB = 1> (f, r)",
            "ONNX Runtime on x86 and Arm CPUs would run AveragePool 'AveragePool_0' before it in integers, with wrong "
            "results",
        ),
        ("d = Cast <to = 11> (x) y = MatMul(d, d)", "its input 'd' is DOUBLE"),
    ],
)
def test_what_stays_float_is_listed_with_the_reason(placed: Callable[..., Placement], nodes: str, reason: str) -> None:
    placement = placed(
        nodes, outputs=("double" if "Cast" in nodes else "float") + " y", s=ones(256, 4), e=ones(8, 8), r=ones(5, 64)
    )
    ((name, operator, found),) = placement.left_float
    assert name.startswith(operator)
    assert found == reason
    assert (placement.activations, placement.weights, placement.biases) == ({}, {}, {})


def test_subgraphs_stay_float(placed: Callable[..., Placement]) -> None:
    nodes = """m = ReduceMax <keepdims = 0> (x) t = Cast <to = 9> (m)
               y = If (t) <then_branch = a () => (float p) { p = Conv(x, w) },
                           else_branch = c () => (float q) { q = Conv(x, v) }>"""
    placement = placed(nodes)
    assert [entry[:2] for entry in placement.left_float] == [("p", "Conv"), ("q", "Conv")]
    assert all(entry[2].startswith("it stands inside a subgraph") for entry in placement.left_float)
    assert placement.activations == {}


def test_half_precision_is_quantized_behind_its_cast(model_of: ModelOf) -> None:
    weights = {"w": ones(4, 4, 3, 3).astype(np.float16)}
    model = load(model_of("float16[n,4,8,8] x", "float16[n,4,6,6] y", "y = Conv(x, w)", weights))
    placement = place(model, CPU)
    assert placement.left_float == ()
    assert list(placement.activations) == ["x_as_float", "y_float32"]


def test_unify_takes_unions_within_limits(placed: Callable[..., Placement]) -> None:
    placement = placed("c = Conv(x, w) d = Conv(x, v) k = Concat <axis = 1> (c, d) r = Conv(k, u) y = Relu(r)")
    found = unify({"x": Range(-9, 9), "c": Range(-1, 2), "d": Range(-3, 1), "y": Range(-0.5, 4)}, placement)
    expected = {"x": Range(-9, 9), "y": Range(0, 4)} | dict.fromkeys("cdk", Range(-3, 2))
    assert found == expected


def test_weights_are_encoded_along_their_axes(model_of: ModelOf) -> None:
    weights = {"w": ones(2, 1, 3, 3), "g": np.array([[1.27, 2.54], [-2.54, 5.08]], np.float32)}
    weights["w"][1] *= 12.7
    nodes = "c = Conv(x, w) p = GlobalAveragePool(c) f = Flatten(p) y = Gemm(f, g, b)"
    model = load(model_of("float[n,1,3,3] x", "float[n,2] y", nodes, weights | {"b": np.array([1e9, 0], np.float32)}))
    placement = place(model, CPU)
    found = encodings_of_weights(model, placement)
    # Two neighbors of one sign add up to 127: 1 + 1, 12.7 + 12.7 and 2.54 + 5.08.
    np.testing.assert_allclose(found["w"].scale, [2 / 127, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found["g"].scale, [0.02, 0.06], rtol=1e-6)
    anywhere = encodings_of_weights(model, place(model, replace(CPU, narrow_sums=False)))
    np.testing.assert_allclose(anywhere["w"].scale, [1 / 127, 0.1], rtol=1e-6)
    np.testing.assert_allclose(anywhere["g"].scale, [0.02, 0.04], rtol=1e-6)
    activations = {name: Encoding.of_range(Range(0, 2.55), CPU.activation) for name in placement.activations}
    raised = encodings_of_weights(model, placement, activations=activations)["g"]
    np.testing.assert_allclose(raised.scale, [1e9 / 0.01 / 2**30, 0.06], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "activations", "weights"),
    # Counted by hand: the input, every convolution's and Add's output (after its Relu), what is moved between them,
    # and the pooling before the classifier.
    [
        ("akamaster_resnet20_cifar10", 1 + 19 + 9 + 6 + 2, 20),
        ("kd_resnet20_cifar10", 1 + 22 + 9 + 2, 23),
        ("kd_WRN16_1_cifar10", 1 + 15 + 6 + 7 + 2, 23),
        ("mobilenet_v1_075_224", 1 + 27 + 2, 28),
    ],
)
def test_real_models_are_quantized_throughout(zoo: Path, name: str, activations: int, weights: int) -> None:
    model = load(zoo / f"models/{name}_bn.onnx")
    fold_batch_normalization(model)
    lower(model, CPU)
    placement = place(model, CPU)
    assert placement.left_float == ()
    assert (len(placement.activations), len(placement.weights)) == (activations, weights)
    assert "output" not in placement.activations
