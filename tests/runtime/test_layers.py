"""What is a layer, and its multiply-accumulates, worked out by hand."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from dfq_deploy.runtime.layers import is_layer, kind_of_node, macs_of

ModelOf = Callable[..., onnx.ModelProto]

SPREAD = "y = ConvTranspose <strides = [2, 2]> (x, w)"
GATES = "y = LSTM <hidden_size = 4> (x, w, r)"


def node_of(model_of: ModelOf, inputs: str, outputs: str, text: str, **weights: tuple[int, ...]) -> ir.Node:
    arrays = {name: np.ones(shape, np.float32) for name, shape in weights.items()}
    model = ir.from_proto(model_of(inputs, outputs, text, arrays))
    ShapeInferencePass()(model)
    return next(iter(model.graph))


@pytest.mark.parametrize(
    ("inputs", "outputs", "text", "weights", "macs"),
    [
        # 6 filters of 3 by 3 by 3, at 64 positions.
        ("float[n,3,8,8] x", "float[n,6,8,8] y", "y = Conv <pads = [1,1,1,1]> (x, w)", {"w": (6, 3, 3, 3)}, 10368),
        # 8 depthwise filters of 3 by 3, at 9 positions.
        ("float[1,8,5,5] x", "float[1,8,3,3] y", "y = Conv <group = 8> (x, w)", {"w": (8, 1, 3, 3)}, 648),
        # Each of the 4 by 5 by 5 inputs is spread over 6 channels of 2 by 2.
        ("float[1,4,5,5] x", "float[1,6,10,10] y", SPREAD, {"w": (4, 6, 2, 2)}, 2400),
        ("float[n,16] x", "float[n,5] y", "y = Gemm <transB = 1> (x, w)", {"w": (5, 16)}, 80),
        ("float[n,16] x", "float[n,5] y", "y = Gemm (x, w)", {"w": (16, 5)}, 80),
        ("float[n,7,16] x", "float[n,7,5] y", "y = MatMul (x, w)", {"w": (16, 5)}, 560),
        ("float[n,2,7,3] x, float[n,2,3,7] w", "float[n,2,7,7] y", "y = MatMul (x, w)", {}, 294),
        # Five steps of four gates of 4 by 3 and 4 by 4.
        ("float[5,1,3] x", "float[5,1,1,4] y", GATES, {"w": (1, 16, 3), "r": (1, 16, 4)}, 560),
        # How long it is remains open.
        ("float[n,t,16] x", "float[n,t,5] y", "y = MatMul (x, w)", {"w": (16, 5)}, None),
    ],
)  # fmt: skip
def test_products(
    model_of: ModelOf, inputs: str, outputs: str, text: str, weights: dict[str, tuple[int, ...]], macs: int | None
) -> None:
    node = node_of(model_of, inputs, outputs, text, **weights)
    assert is_layer(node)
    assert kind_of_node(node) == "float"
    assert macs_of(node) == macs


def test_what_computes_shapes_is_no_layer(model_of: ModelOf) -> None:
    assert not is_layer(node_of(model_of, "int64[2,2] x", "int64[2,2] y", "y = MatMul (x, x)"))
    assert not is_layer(node_of(model_of, "float[2,2] x", "float[2,2] y", "y = Relu (x)"))
