"""Forms of operators that older opsets have, against ONNX Runtime."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dfq_deploy.twin import Twin

Array = NDArray[Any]
Maker = Callable[..., onnx.ModelProto]
Case = tuple[str, int, dict[str, Any], Sequence[Array], int]


def _random(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


def _floats(*values: float) -> Array:
    return np.array(values, np.float32)


def _number(value: float) -> Array:
    return np.array(value, np.float32)


def _gates(directions: int, rows: int) -> tuple[Array, Array]:
    return _random(directions, rows, 3), _random(directions, rows, 4)


EMPTY = np.zeros(0, np.float32)
PICTURE = _random(2, 3, 5, 6)
SERIES = _random(5, 2, 3)
SQUARE = _random(1, 4, 4, 4)

# operator, opset, attributes, inputs (the first is fed, the others are constants), outputs
CASES: list[Case] = [
    ("Softmax", 11, {"axis": 1}, [PICTURE], 1),
    ("LogSoftmax", 11, {"axis": -1}, [PICTURE], 1),
    ("Hardmax", 11, {"axis": 2}, [PICTURE], 1),
    ("Softmax", 13, {}, [PICTURE], 1),
    ("Clip", 7, {"min": -0.5, "max": 0.5}, [PICTURE], 1),
    ("Clip", 7, {"max": 0.5}, [PICTURE], 1),
    ("Clip", 12, {}, [PICTURE, _number(-0.5)], 1),
    ("Pad", 7, {"pads": [0, 0, 1, 2, 0, 0, 3, 4], "value": 1.5}, [PICTURE], 1),
    ("Pad", 7, {"pads": [0, 0, 1, 2, 0, 0, 3, 4], "mode": "reflect"}, [PICTURE], 1),
    ("Pad", 11, {"mode": "edge"}, [PICTURE, _ints(0, 0, 1, 2, 0, 0, 3, 0)], 1),
    ("Pad", 13, {}, [PICTURE, _ints(0, 0, -1, 2, 0, 0, -1, 0), _number(2)], 1),
    ("Pad", 18, {}, [PICTURE, _ints(1, 2), _number(2), _ints(-1)], 1),
    ("Slice", 9, {"starts": [0, -4], "ends": [1, 1000], "axes": [0, 3]}, [PICTURE], 1),
    ("Slice", 13, {}, [PICTURE, _ints(-1, 1), _ints(-1000, 5), _ints(2, 3), _ints(-2, 2)], 1),
    ("Squeeze", 11, {"axes": [0]}, [SQUARE], 1),
    ("Squeeze", 13, {}, [SQUARE], 1),
    ("Unsqueeze", 11, {"axes": [0, -1]}, [SQUARE], 1),
    ("Split", 11, {"axis": 1, "split": [1, 2]}, [PICTURE], 2),
    ("Split", 11, {"axis": 3}, [PICTURE], 2),
    ("Split", 18, {"axis": 2, "num_outputs": 2}, [PICTURE], 2),
    ("ReduceMean", 11, {"axes": [2, 3], "keepdims": 0}, [PICTURE], 1),
    ("ReduceSum", 11, {"axes": [-1]}, [PICTURE], 1),
    ("ReduceSum", 13, {"keepdims": 0}, [PICTURE, _ints(1, 2)], 1),
    ("ReduceL2", 11, {}, [PICTURE], 1),
    ("ReduceMax", 18, {}, [PICTURE, _ints(1)], 1),
    ("TopK", 9, {"k": 2, "axis": 1}, [PICTURE], 2),
    ("TopK", 11, {"largest": 0, "axis": 2}, [PICTURE, _ints(3)], 2),
    ("Dropout", 7, {"ratio": 0.3}, [PICTURE], 1),
    ("Dropout", 12, {}, [PICTURE, _number(0.3)], 1),
    ("BatchNormalization", 7, {"epsilon": 0.01}, [PICTURE, *(np.abs(_random(3)) for _ in range(4))], 1),
    ("BatchNormalization", 15, {}, [PICTURE, *(np.abs(_random(3)) for _ in range(4))], 1),
    ("Upsample", 7, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}, [PICTURE], 1),
    ("Upsample", 9, {"mode": "linear"}, [PICTURE, _floats(1, 1, 2, 3)], 1),
    ("Upsample", 9, {"mode": "nearest"}, [PICTURE, _floats(1, 1, 1.5, 2.5)], 1),
    ("Resize", 10, {"mode": "nearest"}, [PICTURE, _floats(1, 1, 2, 0.5)], 1),
    ("Resize", 10, {"mode": "linear"}, [PICTURE, _floats(1, 1, 2, 1.5)], 1),
    *(
        ("Resize", 13, {"mode": mode, "coordinate_transformation_mode": where}, [PICTURE, EMPTY, _floats(*scales)], 1)
        for mode in ("linear", "cubic")
        for where in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
        for scales in ((1, 1, 2, 2), (1, 1, 0.6, 1.7))
        # where corners are aligned and the length is not whole, ONNX Runtime rounds it and the standard does not
        if where != "align_corners" or scales[2] == 2
    ),
    *(
        (
            "Resize",
            19,
            {"mode": "nearest", "coordinate_transformation_mode": where, "nearest_mode": rounding},
            [PICTURE, EMPTY, EMPTY, _ints(2, 3, *sizes)],
            1,
        )
        for where in ("half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for sizes in ((10, 12), (4, 11))
    ),
    ("Resize", 13, {"mode": "nearest"}, [PICTURE, EMPTY, _floats(1, 1, 2, 2).reshape(1, 4)], 1),
    ("Resize", 18, {"mode": "linear", "antialias": 1}, [PICTURE, EMPTY, _floats(1, 1, 0.5, 0.4)], 1),
    ("Resize", 18, {"mode": "cubic", "antialias": 1}, [PICTURE, EMPTY, _floats(1, 1, 0.5, 0.4)], 1),
    ("MaxPool", 8, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}, [PICTURE], 2),
    ("MaxPool", 12, {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1, "dilations": [2, 1]}, [PICTURE], 2),
    ("MaxPool", 12, {"kernel_shape": [3, 2], "strides": [2, 1], "auto_pad": "SAME_LOWER"}, [PICTURE], 1),
    ("AveragePool", 10, {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, [PICTURE], 1),
    ("AveragePool", 10, {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1], "count_include_pad": 1}, [PICTURE], 1),
    (
        "AveragePool",
        19,
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "ceil_mode": 1},
        [PICTURE],
        1,
    ),
    ("LpPool", 11, {"kernel_shape": [2, 2], "p": 3}, [PICTURE], 1),
    ("GlobalLpPool", 11, {"p": 2}, [PICTURE], 1),
    ("Conv", 11, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [PICTURE, _random(4, 3, 3, 2)], 1),
    ("Conv", 11, {"pads": [0, 1, 2, 0], "dilations": [2, 1]}, [PICTURE, _random(4, 3, 3, 2), _random(4)], 1),
    ("Conv", 11, {"group": 2, "pads": [1, 1]}, [_random(2, 4, 9), _random(6, 2, 3)], 1),
    ("Conv", 11, {"strides": [1, 2, 1]}, [_random(1, 2, 4, 5, 4), _random(3, 2, 2, 3, 2)], 1),
    ("ConvTranspose", 11, {"strides": [2, 2], "pads": [1, 0, 0, 1]}, [PICTURE, _random(3, 2, 3, 3), _random(2)], 1),
    ("ConvTranspose", 11, {"strides": [2, 2], "output_padding": [1, 1]}, [PICTURE, _random(3, 2, 3, 3), _random(2)], 1),
    ("ConvTranspose", 11, {"strides": [3, 2], "output_shape": [14, 13]}, [PICTURE, _random(3, 2, 3, 3)], 1),
    ("ConvTranspose", 11, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, [PICTURE, _random(3, 2, 3, 3)], 1),
    ("ConvTranspose", 11, {"strides": [2], "group": 2, "dilations": [2]}, [_random(1, 4, 5), _random(4, 3, 3)], 1),
    ("Gemm", 11, {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}, [_random(3, 4), _random(5, 3), _random(5)], 1),
    ("Gather", 11, {"axis": 2}, [PICTURE, np.array([[0, -1]], np.int64)], 1),
    ("LayerNormalization", 17, {"axis": 2}, [PICTURE, _random(5, 6), _random(5, 6)], 1),
    ("LayerNormalization", 17, {"axis": -1}, [PICTURE, _random(6)], 1),
    ("LayerNormalization", 17, {"axis": -1}, [PICTURE, _random(6), _random(1, 6)], 1),
    ("InstanceNormalization", 11, {}, [PICTURE, _random(3), _random(3)], 1),
    ("LRN", 11, {"size": 3}, [PICTURE], 1),
    ("DepthToSpace", 11, {"blocksize": 2, "mode": "CRD"}, [SQUARE], 1),
    ("LSTM", 14, {"hidden_size": 4, "direction": "bidirectional"}, [SERIES, *_gates(2, 16), _random(2, 32)], 3),
    ("LSTM", 14, {"hidden_size": 4, "activations": ["HardSigmoid", "Relu", "Tanh"]}, [SERIES, *_gates(1, 16)], 3),
    ("GRU", 14, {"hidden_size": 4, "linear_before_reset": 1}, [SERIES, *_gates(1, 12), _random(1, 24)], 2),
    ("GRU", 14, {"hidden_size": 4, "direction": "reverse", "clip": 0.3}, [SERIES, *_gates(1, 12)], 2),
    (
        "RNN",
        14,
        {"hidden_size": 4, "activations": ["Elu"], "activation_alpha": [0.2]},
        [SERIES, *_gates(1, 4)],
        2,
    ),
]


def _name(case: Case) -> str:
    operator, opset, attributes, *_ = case
    return f"{operator}-{opset}-" + "-".join(str(value) for value in attributes.values())


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_older_forms_equal_onnx_runtime(case: Case, make_model: Maker) -> None:
    operator, opset, attributes, arrays, count = case
    names = [f"input{index}" if array.size else "" for index, array in enumerate(arrays)]
    outputs = [f"output{index}" for index in range(count)]
    constants = {name: array for name, array in zip(names[1:], arrays[1:], strict=True) if name}
    second = TensorProto.INT64 if operator in {"TopK", "MaxPool"} else TensorProto.FLOAT
    types = {name: second if index else TensorProto.FLOAT for index, name in enumerate(outputs)}
    node = helper.make_node(operator, names, outputs, **attributes)
    model = make_model([node], {names[0]: (TensorProto.FLOAT, arrays[0].shape)}, constants, types, opset)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    expected = ort.InferenceSession(model.SerializeToString(), options).run(None, {names[0]: arrays[0]})
    result = Twin.from_model(ir.from_proto(model))(torch.from_numpy(arrays[0]))
    results = result if isinstance(result, tuple) else (result,)
    for actual, wanted in zip(results, expected, strict=True):
        assert tuple(actual.shape) == wanted.shape
        np.testing.assert_allclose(actual.numpy(), wanted, rtol=1e-4, atol=1e-5)
