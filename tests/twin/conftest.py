"""Small models of one or a few nodes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Maker = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session")
def make_model() -> Maker:
    """Make a model: nodes, the inputs' (type, shape), constants, output names; see ``_model``."""
    return _model


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    constants: Mapping[str, Array] | None = None,
    outputs: Mapping[str, int] | Sequence[str] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model whose outputs are float unless ``outputs`` maps their names to types."""
    types = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs, TensorProto.FLOAT)
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
