"""What the operators behind an input say of its open sizes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import example_shape, input_values
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.required_sizes import required_sizes

ModelOf = Callable[..., onnx.ModelProto]


def ones(*shape: int) -> NDArray[np.float32]:
    return np.ones(shape, np.float32)


def input_of(model: onnx.ModelProto) -> ir.Value:
    return input_values(load(model))[0]


@pytest.mark.parametrize(
    ("shape", "nodes", "weights", "wanted"),
    [
        ("n,c,h,w", "y = Conv(x, k)", {"k": ones(2, 5, 3, 3)}, {1: 5}),
        ("n,c,h,w", "y = Conv <group = 6> (x, k)", {"k": ones(6, 1, 3, 3)}, {1: 6}),
        ("n,c,d,h,w", "y = Conv(x, k)", {"k": ones(2, 4, 1, 3, 3)}, {1: 4}),
        ("n,c,t", "y = ConvTranspose(x, k)", {"k": ones(7, 2, 3)}, {1: 7}),
        ("n,h,w,c", "t = Transpose <perm = [0, 3, 1, 2]> (x) y = Conv(t, k)", {"k": ones(2, 3, 3, 3)}, {3: 3}),
        ("n,c,h,w", "s = Sub(x, m) d = Div(s, q) y = Relu(d)", {"m": ones(1, 3, 1, 1), "q": ones(1)}, {1: 3}),
        ("n,c,h,w", "r = Relu(x) p = GlobalMaxPool(r) y = Conv(p, k)", {"k": ones(2, 3, 1, 1)}, {1: 3}),
        ("n,c,h,w", "y = BatchNormalization(x, k, k, k, k)", {"k": ones(3)}, {1: 3}),
        ("n,t,f", "y = MatMul(x, k)", {"k": ones(20, 4)}, {2: 20}),
        ("n,f,t", "y = MatMul(k, x)", {"k": ones(4, 20)}, {1: 20}),
        ("n,f", "y = Gemm <transB = 1> (x, k)", {"k": ones(4, 13)}, {1: 13}),
        ("n,t,f", "y = LayerNormalization(x, k)", {"k": ones(12)}, {2: 12}),
        ("t,n,f", "y, h, c = LSTM <hidden_size = 2> (x, k, r)", {"k": ones(1, 8, 9), "r": ones(1, 8, 2)}, {2: 9}),
        # Neither the size of a picture, nor what a broadcast constant leaves free.
        ("n,c,h,w", "y = Mul(x, k)", {"k": ones(1, 1, 1)}, {}),
        ("n,c,h,w", "y = AveragePool <kernel_shape = [2, 2]> (x)", {}, {}),
        ("n,c,h,w", "f = Flatten(x) y = Gemm(f, k)", {"k": ones(48, 2)}, {}),
    ],
)  # fmt: skip
def test_an_operator_tells_the_size(
    model_of: ModelOf, shape: str, nodes: str, weights: Mapping[str, NDArray[Any]], wanted: Mapping[int, int]
) -> None:
    value = input_of(model_of(f"float[{shape}] x", "float y", nodes, weights))
    assert required_sizes(value) == wanted


def test_the_shape_that_is_suggested_can_be_run(model_of: ModelOf) -> None:
    model = model_of("float[n,c,h,w] x", "float y", "y = Conv(x, k)", {"k": ones(2, 4, 3, 3)})
    assert example_shape(input_of(model)) == "x:1,4,224,224"
