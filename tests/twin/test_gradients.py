"""Every differentiable operator against finite differences, in double precision."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dfq_deploy.twin import REGISTRY, Twin

Array = NDArray[Any]
Maker = Callable[..., onnx.ModelProto]
Case = tuple[str, dict[str, Any], Sequence[Array | None]]

RNG = np.random.default_rng(0)


def _any(*shape: int) -> Array:
    """Values of either sign, away from zero and from each other, where kinks and ties are."""
    count = int(np.prod(shape))
    magnitudes = 0.3 + 1.5 * (np.arange(count) + 0.25) / count
    return RNG.permutation(magnitudes * np.where(np.arange(count) % 2, 1, -1)).reshape(shape)


def _some(*shape: int) -> Array:
    """Values between 0.1 and 0.8, away from each other."""
    count = int(np.prod(shape))
    return RNG.permutation(np.linspace(0.1, 0.8, count)).reshape(shape)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


def _gates(count: int) -> list[Array]:
    return [_any(1, 3 * count, 2) / 2, _any(1, 3 * count, 3) / 2, _any(1, 6 * count) / 2]


X = _any(2, 3)
PICTURE = _any(1, 2, 4, 4)
EMPTY = np.zeros(0, np.float32)
TRUTH = np.array([[True, False, True], [False, True, True]])

ELEMENTWISE = (
    *("Abs", "Asinh", "Atan", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
    *("Identity", "LeakyRelu", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus"),
    *("Softsign", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Softmax", "LogSoftmax", "LpNormalization", "Flatten"),
    *("Transpose", "Dropout", "Cast"),
)
POSITIVE = ("Acos", "Asin", "Atanh", "Log", "Sqrt")
REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")

CASES: list[Case] = [
    *((name, {"to": TensorProto.DOUBLE} if name == "Cast" else {}, [X]) for name in ELEMENTWISE),
    *((name, {}, [_some(2, 3)]) for name in POSITIVE),
    *((name, {}, [X, _ints(1)]) for name in (*REDUCTIONS, "ReduceSum", "ReduceSumSquare")),
    *((name, {}, [X, _any(3)]) for name in ("Add", "Sub", "Mul", "Div", "PRelu")),
    *((name, {}, [X, _any(3), _any(2, 1)]) for name in ("Max", "Min", "Mean", "Sum")),
    ("Acosh", {}, [1 + _some(2, 3)]),
    ("AffineGrid", {}, [_any(1, 2, 3), _ints(1, 1, 2, 3)]),
    ("Attention", {"is_causal": 1, "softcap": 2.0}, [_any(1, 2, 3, 2), _any(1, 1, 3, 2), _any(1, 1, 3, 2)]),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 0]}, [PICTURE]),
    ("BatchNormalization", {}, [PICTURE, *(_some(2) for _ in range(4))]),
    ("CastLike", {}, [X, np.zeros(1)]),
    ("CausalConvWithState", {"activation": "silu"}, [_any(1, 2, 4), _any(2, 1, 3), _any(2), _any(1, 2, 2)]),
    ("CenterCropPad", {}, [X, _ints(4, 2)]),
    ("Clip", {}, [X, np.array(-1.0), np.array(1.0)]),
    ("Col2Im", {}, [_any(1, 4, 4), _ints(3, 3), _ints(2, 2)]),
    ("Compress", {"axis": 1}, [X, np.array([True, False, True])]),
    ("Concat", {"axis": 0}, [X, _any(1, 3)]),
    ("Conv", {"pads": [1, 0, 1, 2]}, [PICTURE, _any(2, 2, 3, 3), _any(2)]),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1, 0, 1, 1]}, [_any(1, 2, 3, 3), _any(2, 2, 3, 3), _any(2)]),
    ("CumProd", {}, [X, _ints(1)]),
    ("CumSum", {"exclusive": 1}, [X, _ints(1)]),
    ("DFT", {"onesided": 1}, [_any(1, 4, 1), None, _ints(1)]),
    ("DeformConv", {}, [PICTURE, _any(1, 2, 2, 2), 0.3 * _any(1, 8, 3, 3), None, _some(1, 4, 3, 3)]),
    ("DepthToSpace", {"blocksize": 2}, [_any(1, 4, 2, 1)]),
    ("DequantizeLinear", {"axis": 0}, [np.array([[3, -2]], np.int8), np.array([0.5]), np.array([1], np.int8)]),
    ("Det", {}, [_any(2, 2, 2)]),
    ("Einsum", {"equation": "ij,kj->ik"}, [X, _any(4, 3)]),
    ("Expand", {}, [_any(1, 3), _ints(2, 2, 1)]),
    ("GRU", {"hidden_size": 3}, [_any(3, 2, 2), *_gates(3)]),
    ("Gather", {"axis": 1}, [X, _ints(2, 0, 2)]),
    ("GatherElements", {"axis": 1}, [X, np.array([[0, -1], [2, 2]], np.int64)]),
    ("GatherND", {}, [X, np.array([[1, 2], [0, 0]], np.int64)]),
    ("Gemm", {"alpha": 0.5, "transB": 1}, [X, _any(4, 3), _any(4)]),
    ("GlobalAveragePool", {}, [PICTURE]),
    ("GlobalLpPool", {"p": 3}, [PICTURE]),
    ("GlobalMaxPool", {}, [PICTURE]),
    ("GridSample", {"mode": "linear"}, [PICTURE, 0.4 * _any(1, 2, 2, 2)]),
    ("GroupNormalization", {"num_groups": 2}, [_any(1, 4, 3), _any(4), _any(4)]),
    ("InstanceNormalization", {}, [PICTURE, _any(2), _any(2)]),
    ("LRN", {"size": 3, "alpha": 0.1}, [_any(1, 4, 2)]),
    ("LSTM", {"hidden_size": 3}, [_any(3, 2, 2), *_gates(4)]),
    ("LayerNormalization", {}, [X, _any(3), _any(3)]),
    ("LpPool", {"kernel_shape": [2, 2]}, [PICTURE]),
    ("MatMul", {}, [_any(2, 2, 3), _any(3, 2)]),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, [PICTURE]),
    ("MaxUnpool", {"kernel_shape": [2], "strides": [2]}, [_any(1, 1, 2), np.array([[[1, 2]]], np.int64)]),
    ("MeanVarianceNormalization", {}, [PICTURE]),
    ("Mod", {"fmod": 1}, [X, np.full((1, 3), 1.75)]),
    ("NegativeLogLikelihoodLoss", {}, [X, _ints(2, 0)]),
    ("Pad", {"mode": "reflect"}, [X, _ints(0, 1, 1, 2)]),
    ("Pow", {}, [_some(2, 3), _any(3)]),
    ("RMSNormalization", {}, [X, _any(3)]),
    ("RNN", {"hidden_size": 3}, [_any(3, 2, 2), *(_any(1, 3, n) for n in (2, 3)), _any(1, 6)]),
    ("ReduceLogSum", {}, [_some(2, 3), _ints(1)]),
    ("Reshape", {}, [X, _ints(3, -1)]),
    ("Resize", {"mode": "cubic", "antialias": 1}, [PICTURE, EMPTY, np.array([1, 1, 0.5, 1.5], np.float32)]),
    ("ReverseSequence", {}, [X, _ints(1, 2, 1)]),
    ("RoiAlign", {"output_height": 2, "output_width": 2}, [PICTURE, np.array([[0, 0, 3, 3]], np.float32), _ints(0)]),
    ("RotaryEmbedding", {}, [_any(1, 1, 2, 4), _any(1, 2, 2), _any(1, 2, 2)]),
    ("STFT", {}, [_any(1, 6), _ints(2), _some(4)]),
    ("ScatterElements", {"axis": 1, "reduction": "add"}, [X, np.array([[1, 1]], np.int64), _any(1, 2)]),
    ("ScatterND", {}, [X, np.array([[1]], np.int64), _any(1, 3)]),
    ("Shrink", {"lambd": 0.2, "bias": 0.1}, [X]),
    ("Slice", {}, [X, _ints(-1), _ints(-9), _ints(1), _ints(-2)]),
    ("SoftmaxCrossEntropyLoss", {}, [X, _ints(2, 0)]),
    ("SpaceToDepth", {"blocksize": 2}, [PICTURE]),
    ("Split", {"axis": 1, "num_outputs": 2}, [X]),
    ("Squeeze", {}, [_any(1, 3), _ints(0)]),
    ("SwiGLU", {}, [X, _any(2, 3)]),
    ("TensorScatter", {"axis": 1}, [X, _any(2, 2), _ints(1, 0)]),
    ("Tile", {}, [X, _ints(2, 1)]),
    ("TopK", {"axis": 1}, [X, _ints(2)]),
    ("Trilu", {}, [X]),
    ("Unsqueeze", {}, [X, _ints(1)]),
    ("Where", {}, [TRUTH, X, _any(3)]),
]

FORERUNNERS = {"Scatter": "ScatterElements", "Upsample": "Resize", "SimplifiedLayerNormalization": "RMSNormalization"}
"""Old names for the same code."""

NOT_DIFFERENTIABLE = {
    *("And", "ArgMax", "ArgMin", "BitCast", "BitShift", "BitwiseAnd"),
    *("BitwiseNot", "BitwiseOr", "BitwiseXor", "BlackmanWindow", "Ceil", "ConstantOfShape"),
    *("DynamicQuantizeLinear", "Equal", "EyeLike", "Floor", "Greater", "GreaterOrEqual"),
    *("HammingWindow", "HannWindow", "Hardmax", "If", "IsInf", "IsNaN"),
    *("Less", "LessOrEqual", "Loop", "MatMulInteger", "MelWeightMatrix", "NonMaxSuppression"),
    *("SequenceEmpty", "SequenceLength", "SequenceMap"),
    *("NonZero", "Not", "OneHot", "Or", "QLinearMatMul", "QuantizeLinear"),
    *("Range", "Round", "Scan", "Shape", "Sign", "Size"),
    *("Unique", "Xor"),
}
"""Integers, choices and steps; If, Loop, Scan and SequenceMap run other operators."""

SEQUENCES = [
    helper.make_node("SplitToSequence", ["x"], ["rows"], axis=0, keepdims=0),
    helper.make_node("SequenceAt", ["rows", "last"], ["row"]),
    helper.make_node("SequenceInsert", ["rows", "row", "zero"], ["longer"]),
    helper.make_node("SequenceErase", ["longer", "last"], ["shorter"]),
    helper.make_node("ConcatFromSequence", ["shorter"], ["a"], axis=0, new_axis=1),
    helper.make_node("SequenceConstruct", ["a", "x"], ["pair"]),
    helper.make_node("ConcatFromSequence", ["pair"], ["b"], axis=1),
]
"""What takes a matrix apart and puts it together again."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_gradient_is_that_of_finite_differences(case: Case, make_model: Maker) -> None:
    operator, attributes, arrays = case
    names = ["" if array is None or array.size == 0 else f"input{place}" for place, array in enumerate(arrays)]
    given = {name: array for name, array in zip(names, arrays, strict=True) if name and array is not None}
    fed = {name: array for name, array in given.items() if array.dtype == np.float64}
    outputs = ["a", "b"] if operator == "Split" else ["a"]
    model = make_model(
        [helper.make_node(operator, names, outputs, **attributes)],
        {name: (TensorProto.DOUBLE, array.shape) for name, array in fed.items()},
        {name: array for name, array in given.items() if name not in fed},
        outputs,
        onnx.defs.onnx_opset_version(),
    )
    twin = Twin.from_model(ir.from_proto(model))
    inputs = [torch.tensor(array, requires_grad=True) for array in fed.values()]
    assert torch.autograd.gradcheck(twin, inputs)


def test_every_operator_is_checked_or_said_not_to_be_differentiable() -> None:
    checked = {operator for operator, _, _ in CASES} | set(FORERUNNERS) | {node.op_type for node in SEQUENCES}
    registered = {operator for domain, operator, _ in REGISTRY if not domain}
    assert registered - checked == NOT_DIFFERENTIABLE


def test_normalization_by_stored_statistics(make_model: Maker) -> None:
    """Statistics that are initializers take a shorter way back than those that are fed."""
    constants = {f"c{index}": _some(2) for index in range(4)}
    model = make_model(
        [helper.make_node("BatchNormalization", ["x", *constants], ["y"])],
        {"x": (TensorProto.DOUBLE, PICTURE.shape)},
        constants,
    )
    twin = Twin.from_model(ir.from_proto(model))
    x = torch.tensor(PICTURE, requires_grad=True)
    assert torch.autograd.gradcheck(twin, [x])
    assert torch.autograd.gradgradcheck(twin, [x])


def test_sequences_pass_gradients(make_model: Maker) -> None:
    constants = {"zero": np.int64(0), "last": np.int64(-1)}
    model = make_model(SEQUENCES, {"x": (TensorProto.DOUBLE, (2, 3))}, constants, ("b",))
    twin = Twin.from_model(ir.from_proto(model))
    x = torch.tensor(X, requires_grad=True)
    result = twin(x)
    assert isinstance(result, torch.Tensor)
    assert torch.equal(result, torch.cat([x.flip(0), x], 1))  # the last row first, then the first one
    assert torch.autograd.gradcheck(twin, [x])
