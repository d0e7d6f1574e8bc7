"""Numbers for nodes, and the way back to their names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfq_deploy.errors import ModelError
from dfq_deploy.runtime.tagged import tag

ModelOf = Callable[..., onnx.ModelProto]


def test_kernels_are_traced_back_to_names(model_of: ModelOf) -> None:
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    nodes = "c = Conv(x, w) s = Softplus(c) r = Relu(s) y = Clip(c)"
    model = model_of("float[1,3,8,8] x", "float[1,4,6,6] y, float[1,4,6,6] r", nodes, weights)
    model.graph.node[0].name = "stem"
    before = model.SerializeToString()
    tagged = tag(model)
    assert model.SerializeToString() == before
    assert tagged.names == ("stem", "s", "r", "y")
    assert [node.name for node in tagged.nodes] == ["@0@", "@1@", "@2@", "@3@"]
    assert tagged.name("@0@") == tagged.name("fused @0@/MatMulAddFusion") == tagged.name("@0@_token_12") == "stem"
    # Named after the tensor: its own, and that of the Clip that is fused into it.
    assert tagged.name("c_nchwc") == tagged.name("y_nchwc") == "stem"
    assert tagged.name("Transpose_token_3") == "Transpose_token_3"
    assert tagged.find("Transpose_token_3") is None


def test_functions_of_other_opsets_are_refused(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"])]
    function = helper.make_function("mine", "Act", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    graph = helper.make_graph(
        [helper.make_node("Act", ["x"], ["y"], domain="mine")],
        "called",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "unused")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8), tmp_path / "f.onnx")
    with pytest.raises(ModelError, match=r"f\.onnx: function 'Act' is written in opset 13 .* export it with one opset"):
        tag(tmp_path / "f.onnx")
