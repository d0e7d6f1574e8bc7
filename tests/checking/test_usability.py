"""What is left to the CPU for NNAPI, against ONNX Runtime's own usability checker."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import Samples, calibrate
from dfq_deploy.checking import check
from dfq_deploy.targets.catalog import REFUSED, TARGETS

usability_checker = pytest.importorskip("onnxruntime.tools.mobile_helpers.usability_checker")

ModelOf = Callable[..., onnx.ModelProto]

LISTS = ("coreml_supported_mlprogram_ops.md", "coreml_supported_neuralnetwork_ops.md")


def listed(name: str) -> set[str]:
    """The operators of a table of ONNX Runtime, as this package writes them."""
    text = (files("onnxruntime.tools.mobile_helpers") / name).read_text(encoding="utf-8")
    rows = (line.split("|")[1] for line in text.splitlines() if line.startswith("|"))
    pairs = [row.split(":") for row in rows if ":" in row and not row.startswith(":")]
    return {operator if domain == "ai.onnx" else f"{domain}::{operator}" for domain, operator in pairs}


def test_the_operators_of_nnapi_are_those_of_onnx_runtime() -> None:
    theirs = listed("nnapi_supported_ops.md")
    assert len(theirs) > 50
    for name in ("nnapi", "nnapi-per-tensor"):
        assert set(TARGETS[name].accelerated_ops or ()) == theirs


def test_core_ml_is_refused_since_its_lists_have_no_quantization() -> None:
    assert "no QuantizeLinear or DequantizeLinear" in REFUSED["coreml"]
    for name in LISTS:
        theirs = listed(name)
        assert "Conv" in theirs
        assert not [operator for operator in theirs if "Quantize" in operator or "QLinear" in operator]


@pytest.mark.parametrize("target", ["nnapi", "nnapi-per-tensor"])
def test_the_nodes_left_to_the_cpu_are_those_outside_the_parts(model_of: ModelOf, tmp_path: Path, target: str) -> None:
    nodes = (
        "c = Conv <pads = [1, 1, 1, 1]> (x, w) h = HardSwish(c) d = Conv <pads = [1, 1, 1, 1]> (h, w) r = Relu(d) "
        "g = GlobalAveragePool(r) f = Flatten(g) e = Erf(f) y = Gemm(e, m)"
    )
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(0, 0.2, (4, 4, 3, 3)), "m": rng.normal(0, 0.5, (4, 3))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    model = model_of("float[n,4,8,8] x", "float[n,3] y", nodes, arrays)
    for node in model.graph.node:
        node.name = node.output[0]
    images = Samples(rng.normal(size=(8, 4, 8, 8)).astype(np.float32))
    result = calibrate(model, data=images, target=target, refine=(), floor="none", output=tmp_path / "out")
    assert result.model_path is not None
    report = check(result.model_path, target)
    assert report.clean
    ours = {entry.node for entry in report.advice if entry.rule == "left-to-cpu"}
    stored = onnx.shape_inference.infer_shapes(onnx.load(result.model_path))
    parts = usability_checker.check_nnapi_partitions(stored, True)
    inside = {node.name for group in parts.supported_groups for node in group}
    assert ours == {node.name for node in stored.graph.node} - inside
    assert {operator.removeprefix("ai.onnx:") for operator in parts.unsupported_ops} == {
        entry.operator for entry in report.advice
    }
    assert len(ours) >= 2
