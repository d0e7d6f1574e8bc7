"""Where Q and DQ stand for the targets other than ``cpu``; the expectations are written by hand."""

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.fold_batch_norm import fold_batch_normalization
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.quantization.lowering import lower
from dfq_deploy.quantization.placement.place import Placement, place
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]

Placed = Callable[..., Placement]

IMAGE = "float[n,4,8,8] x"

SAME = "pads = [1,1,1,1]"


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


WEIGHTS = {
    **{"w": ones(4, 4, 3, 3), "v": ones(4, 4, 3, 3), "b": ones(4), "u": ones(6, 8, 3, 3), "t": ones(4, 6, 3, 3)},
    **{"g": ones(4, 5), "zero": np.zeros((), np.float32), "six": np.full((), 6, np.float32)},
}


@pytest.fixture
def placed(model_of: ModelOf) -> Placed:
    """Lowers and places a graph of ONNX text for a target."""

    def place_text(target: str, nodes: str, *, inputs: str = IMAGE, outputs: str = "float y", **more: Any) -> Placement:
        words = set(nodes.replace(",", " ").replace("(", " ").replace(")", " ").split())
        weights = {name: array for name, array in {**WEIGHTS, **more}.items() if name in words}
        model = load(model_of(inputs, outputs, nodes, weights))
        lower(model, find_target(target))
        return place(model, find_target(target))

    return place_text


def tensors(placement: Placement) -> list[str]:
    return list(placement.activations)


def test_tensorrt_quantizes_inputs_of_layers_and_no_bias(placed: Placed) -> None:
    placement = placed("tensorrt", "c = Conv(x, w, b) r = Relu(c) d = Conv(r, v, b) y = Softmax(d)")
    s8 = find_target("tensorrt").activation
    assert (s8.signed, s8.symmetric, s8.bits) == (True, True, 8)
    assert placement.activations == {"x": s8, "r": s8}
    assert placement.weights == {"w": (s8, 0), "v": (s8, 0)}
    assert placement.biases == {}


def test_tensorrt_takes_a_bias_that_integers_cannot_hold(placed: Placed) -> None:
    nodes = "y = Gemm <beta = 0.5> (x, g, h)"
    assert placed("cpu", nodes, inputs="float[n,4] x", h=ones(5)).left_float
    assert placed("tensorrt", nodes, inputs="float[n,4] x", h=ones(5)).left_float == ()


def test_tensorrt_quantizes_the_identity_of_a_residual_block(placed: Placed) -> None:
    nodes = f"c = Conv <{SAME}> (x, w) r = Relu(c) d = Conv <{SAME}> (r, v) a = Add(d, r) y = Relu(a)"
    assert tensors(placed("tensorrt", nodes)) == ["x", "r"]
    pooled = nodes.replace("Add(d, r)", "Add(d, p)").replace("a =", "p = Sigmoid(c) a =")
    assert tensors(placed("tensorrt", pooled)) == ["x", "r", "p"]


@pytest.mark.parametrize("add", ["Add(d, s)", "Add(s, d)"])
def test_tensorrt_quantizes_the_shortcut_of_two_convolutions(placed: Placed, add: str) -> None:
    nodes = f"c = Conv <{SAME}> (x, w) r = Relu(c) d = Conv <{SAME}> (r, v) s = Conv <{SAME}> (x, v) y = {add}"
    assert tensors(placed("tensorrt", nodes)) == ["x", "r", "s"]


def test_tensorrt_leaves_an_add_of_no_convolution(placed: Placed) -> None:
    assert tensors(placed("tensorrt", "c = Conv(x, w) r = Relu(c) e = Exp(r) y = Add(r, e)")) == ["x"]


def test_tensorrt_shares_one_scale_among_what_a_concat_joins(placed: Placed) -> None:
    nodes = f"""c = Conv <{SAME}> (x, w) r = Relu(c) d = Conv <{SAME}> (r, v) k = Concat <axis = 1> (r, d)
                e = Conv <{SAME}> (k, u) f = Conv <{SAME}> (e, t) y = Conv <{SAME}> (d, w)"""
    placement = placed("tensorrt", nodes, outputs="float y, float f")
    assert tensors(placement) == ["x", "r", "d", "k", "e"]
    assert [sorted(group) for group in placement.shared] == [["d", "k", "r"]]


def test_tensorrt_puts_nothing_between_a_layer_and_its_activation(placed: Placed) -> None:
    nodes = f"c = Conv <{SAME}> (x, w) r = Relu(c) d = Conv <{SAME}> (r, v) y = Add(d, c)"
    assert tensors(placed("tensorrt", nodes)) == ["x", "c_branch", "r"]


def test_a_fork_computes_the_same(model_of: ModelOf) -> None:
    nodes = f"c = Conv <{SAME}> (x, w) r = Relu(c) d = Conv <{SAME}> (r, v) y = Add(d, c)"
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(4, 4, 3, 3)).astype(np.float32) for name in "wv"}
    proto = model_of(IMAGE, "float y", nodes, weights)
    model = load(proto)
    assert lower(model, find_target("tensorrt")) == ("Conv_0",)
    x = random.normal(size=(2, 4, 8, 8)).astype(np.float32)
    before, after = (
        ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for file in (proto.SerializeToString(), to_bytes(model))
    )
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_tensorrt_leaves_products_of_a_vector_in_float(placed: Placed) -> None:
    row = placed("tensorrt", "y = MatMul(x, g)", inputs="float[1,4] x", outputs="float[1,5] y")
    ((_, operator, reason),) = row.left_float
    assert (operator, reason) == ("MatMul", "TensorRT 10 and 11 on NVIDIA GPUs has no integer matrix-vector product")
    rows = placed("tensorrt", "y = MatMul(x, g)", inputs="float[8,4] x", outputs="float[8,5] y")
    assert tensors(rows) == ["x"]


def test_a_transposed_convolution_has_its_channels_on_axis_1(placed: Placed) -> None:
    s8 = find_target("tensorrt").weight
    assert placed("tensorrt", "y = ConvTranspose(x, w)").weights == {"w": (s8, 1)}
    grouped = placed("tensorrt", "y = ConvTranspose <group = 2> (x, w)")
    assert grouped.weights == {"w": (s8, None)}


def test_tensorrt_keeps_batch_normalization_that_is_left(model_of: ModelOf) -> None:
    nodes = "a = Abs(x) n = BatchNormalization(a, b, b, b, b) r = Relu(n) y = Conv(r, w)"
    for target, operators in (("tensorrt", ["Abs", "BatchNormalization"]), ("cpu", ["Abs", "Conv"])):
        model = load(model_of(IMAGE, "float y", nodes, {"b": ones(4), "w": WEIGHTS["w"]}))
        lower(model, find_target(target))
        assert [node.op_type for node in model.graph][:2] == operators


def test_xnnpack_has_signed_activations_where_cpu_has_unsigned_ones(placed: Placed) -> None:
    nodes = "c = Conv(x, w, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, g)"
    ours, cpu = placed("xnnpack", nodes), placed("cpu", nodes)
    assert {str(kind) for kind in ours.activations.values()} == {"s8"}
    assert not any(kind.symmetric for kind in ours.activations.values())
    assert tensors(ours) == tensors(cpu) == ["x", "r", "p", "f"]
    assert ours.weights == cpu.weights


def test_nnapi_per_tensor_has_one_unsigned_scale_for_each_weight_and_integer_outputs(placed: Placed) -> None:
    nodes = "c = Conv(x, w, b) r = Relu(c) m = MaxPool <kernel_shape = [6, 6]> (r) f = Flatten(m) y = Gemm(f, g)"
    placement = placed("nnapi-per-tensor", nodes)
    assert tensors(placement) == ["x", "r", "f", "y"]
    assert {(str(kind), axis) for kind, axis in placement.weights.values()} == {("u8", None)}
    assert placement.biases == {"b": ("x", "w")}


def test_nnapi_has_scales_per_channel_for_convolutions_alone(placed: Placed) -> None:
    weights = placed("nnapi", "c = Conv(x, w) f = Flatten(c) y = Gemm(f, h)", h=ones(144, 5)).weights
    assert {name: (str(kind), axis) for name, (kind, axis) in weights.items()} == {"w": ("s8", 0), "h": ("s8", None)}


def test_qnn_quantizes_everything(placed: Placed) -> None:
    nodes = """c = Conv(x, w, b) r = Clip(c, zero, six) s = Sigmoid(r) m = Mul(r, s) p = GlobalAveragePool(m)
               f = Flatten(p) l = Gemm(f, g) y = Softmax(l)"""
    placement = placed("qnn", nodes)
    assert tensors(placement) == ["x", "r", "s", "m", "p", "f", "l", "y"]
    assert placement.limits["r"] == (0.0, 6.0)
    kinds = {name: (str(kind), axis) for name, (kind, axis) in placement.weights.items()}
    assert kinds == {"w": ("s8", 0), "g": ("u8", None)}


def test_qnn_quantizes_before_and_after_an_activation_that_is_no_end(placed: Placed) -> None:
    nodes = "a = Relu(x) c = Conv(a, w) r = Relu(c) y = Conv(r, v)"
    placement = placed("qnn", nodes, outputs="float y, float c")
    assert tensors(placement) == ["x", "a", "c", "r", "y"]
    assert (placement.limits["a"], placement.limits["r"]) == ((0.0, inf), (0.0, inf))
    assert "c" not in placement.limits


def test_qnn_quantizes_constant_operands(placed: Placed) -> None:
    nodes = "a = Mul(x, b4) c = Conv(a, w, b) d = Clip(c, zero, six) y = Add(d, one)"
    more = {"b4": ones(4, 1, 1), "one": np.full((), 1, np.float32)}
    placement = placed("qnn", nodes, **more)
    assert {name: str(kind) for name, kind in placement.constants.items()} == {"b4": "u8", "one": "u8"}
    assert placed("cpu", nodes, **more).constants == {}


def test_qnn_touches_no_shapes(placed: Placed) -> None:
    nodes = """c = Conv(x, w) s = Shape(x) n = Gather(s, first) k = Concat <axis = 0> (n, rest) f = Reshape(c, k)
               y = Gemm(f, h)"""
    placement = placed("qnn", nodes, first=np.array([0]), rest=np.array([144]), h=ones(144, 5))
    assert tensors(placement) == ["x", "c", "f", "y"]


@pytest.mark.parametrize(
    ("name", "activations"),
    # By hand: the input of every layer, where no two read the same, and each block's shortcut that is no layer's input:
    # the 2 padded ones of the first network; in the second 3 convolutions, whose input another layer reads.
    [
        ("akamaster_resnet20_cifar10", 20 + 2),
        ("kd_resnet20_cifar10", 20 + 3),
        ("mobilenet_v1_075_224", 28),
    ],
)
def test_real_models_for_tensorrt(zoo: Path, name: str, activations: int) -> None:
    model = load(zoo / f"models/{name}_bn.onnx")
    fold_batch_normalization(model)
    lower(model, find_target("tensorrt"))
    placement = place(model, find_target("tensorrt"))
    assert placement.left_float == ()
    assert len(placement.activations) == activations
