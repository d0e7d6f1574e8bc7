"""Models with nodes that ONNX Runtime does not have."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from dfq_deploy import calibrate, evaluate
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.loading import load
from dfq_deploy.runtime.plugin_nodes import behind_plugins, plugin_nodes, runnable_part
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]


@pytest.fixture
def proto(model_of: ModelOf) -> onnx.ModelProto:
    """Two convolutions, a plug-in that reads both, and a convolution behind it."""
    random = np.random.default_rng(0)
    kernels = {
        name: random.normal(size=(4, 4 if name != "k" else 3, 3, 3)).astype(np.float32) for name in ("k", "l", "m")
    }
    model = model_of("float[n,3,12,12] x", "float[n,4,10,10] a", "c = Conv(x, k) a = Relu(c) b = Conv(a, l)", kernels)
    model.opset_import.append(helper.make_opsetid("TRT", 1))
    model.graph.node.append(helper.make_node("Sort_TRT", ["b", "a"], ["count", "found"], name="sort", domain="TRT"))
    model.graph.node.append(helper.make_node("Conv", ["found", "m"], ["late"], name="late"))
    model.graph.output.insert(0, helper.make_tensor_value_info("count", TensorProto.INT32, ["n", 1]))
    model.graph.output.append(helper.make_tensor_value_info("late", TensorProto.FLOAT, ["n", 4, 8, 8]))
    return model


def test_the_part_before_a_plug_in_is_run(proto: onnx.ModelProto) -> None:
    model = load(proto)
    assert [node.name for node in plugin_nodes(model)] == ["sort"]
    assert {node.name for node in behind_plugins(model)} == {"sort", "late"}
    part = runnable_part(model)
    assert [value.name for value in part.graph.outputs] == ["a", "b"]
    assert [value.name for value in model.graph.outputs] == ["count", "a", "late"]
    images = np.random.default_rng(1).normal(size=(2, 3, 12, 12)).astype(np.float32)
    runner = Runner(proto.SerializeToString())
    assert runner.output_names == ("a", "b")
    del proto.graph.node[3:]
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, None))
    exact = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": images})[0]
    np.testing.assert_array_equal(runner.run(Samples(images))[1], exact)


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_node_is_kept_and_the_rest_is_quantized(proto: onnx.ModelProto, target: str, tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(proto, path)
    found = calibrate(path, synth="procedural", count=16, target=target, output=tmp_path / "out")
    assert found.model_path is not None
    written = onnx.load(found.model_path)
    assert [node.domain for node in written.graph.node if node.op_type == "Sort_TRT"] == ["TRT"]
    assert [value.name for value in written.graph.output] == ["count", "a", "late"]
    assert sum(node.op_type == "QuantizeLinear" for node in written.graph.node) >= 2
    assert [row.name for row in found.report.left_float] == ["late"]
    complaints = [said for said in found.report.warnings if "ONNX Runtime does not have TRT::Sort_TRT" in said]
    assert len(complaints) == (0 if target == "tensorrt" else 1)
    assert not [said for said in found.report.warnings if "left out" in said]
    outputs = evaluate(path, found.model_path, found.samples).comparison.outputs
    assert [output.name for output in outputs] == ["a", "b"]
    assert min(output.snr for output in outputs) > 20


def test_a_model_of_nothing_else_is_refused(model_of: ModelOf) -> None:
    model = model_of("float[n,3] x", "float[n,3] y", "y = Relu(x)", {})
    model.graph.node[0].domain, model.graph.node[0].op_type = "acme", "Wobble"
    model.opset_import.append(helper.make_opsetid("acme", 1))
    with pytest.raises(ModelError, match="nothing can be run before acme::Wobble, which ONNX Runtime does not have"):
        Runner(model.SerializeToString())
