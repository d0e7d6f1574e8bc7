"""The small network that plug-ins are checked on."""

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.reading import ModelSource

__all__ = ["PIXELS_SHAPE", "small_model"]

PIXELS_SHAPE = (3, 12, 16)
"""Of one sample. Height and width differ, so that they cannot be taken for each other."""

CLASSES, WIDTH = 5, 8


def small_model(model: "ModelSource | None" = None) -> ir.Model:
    """``model``, or a classifier of images (N, 3, 12, 16): Conv, BatchNormalization, Relu, pooling, Gemm."""
    return load(_classifier() if model is None else model)


def _classifier() -> onnx.ModelProto:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    weights = {
        "conv.weight": normal(WIDTH, PIXELS_SHAPE[0], 3, 3),
        "bn.scale": 1 + normal(WIDTH) ** 2,
        "bn.bias": normal(WIDTH),
        "bn.mean": normal(WIDTH),
        "bn.var": 0.5 + normal(WIDTH) ** 2,
        "fc.weight": normal(CLASSES, WIDTH),
        "fc.bias": normal(CLASSES),
    }
    nodes = [
        helper.make_node("Conv", ["image", "conv.weight"], ["conv"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", *list(weights)[1:5]], ["bn"], "bn"),
        helper.make_node("Relu", ["bn"], ["relu"], "relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["scores"], "fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *PIXELS_SHAPE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
