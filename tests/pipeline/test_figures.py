"""What a report says of sizes."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

import dfq_deploy

CHANNELS = 8


def _deep(layers: int) -> onnx.ModelProto:
    """Many small convolutions, whose Q and DQ take more than their weights give."""
    generator = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for index in range(layers):
        kernel = generator.normal(0, 0.3, (CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"a_weight_with_a_long_name_{index}"))
        nodes.append(helper.make_node("Conv", [value, weights[-1].name], [f"c{index}"], f"conv{index}"))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"relu{index}"))
        value = f"r{index}"
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", CHANNELS, 4, 4]) for name in ("x", value)
    ]
    graph = helper.make_graph(nodes, "deep", [ports[0]], [ports[1]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_file_that_saves_nothing_is_said_to() -> None:
    found = dfq_deploy.calibrate(_deep(120), synth="procedural", count=8, refine=[], floor="none")
    sizes = [found.report[key]["file_bytes"] for key in ("model", "quantized")]
    assert 100_000 < sizes[1] > sizes[0]
    assert any("larger than the float one" in warning for warning in found.report["warnings"])


def test_a_small_file_may_grow() -> None:
    found = dfq_deploy.calibrate(_deep(4), synth="procedural", count=8, refine=[], floor="none")
    assert not any("larger than the float one" in warning for warning in found.report["warnings"])
