"""Every target from end to end: the file is written, keeps the target's rules, and computes what the model computes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dfq_deploy import Samples, calibrate
from dfq_deploy.checking import check
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.targets.catalog import TARGETS

ModelOf = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="module")
def pictures() -> Samples:
    return Samples(np.random.default_rng(0).uniform(0, 1, (24, 1, 16, 16)).astype(np.float32))


def batch_of(path: Path) -> int | str:
    dim = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
    return dim.dim_value or str(dim.dim_param)


@pytest.mark.parametrize("target", TARGETS)
def test_the_example(target: str, digits_bn: Path, digits_folded: Path, pictures: Samples, tmp_path: Path) -> None:
    if target == "litert":
        pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install 'dfq-deploy[litert]'")
    result = calibrate(digits_bn, data=pictures, target=target, method="minmax", refine=(), output=tmp_path / "out")
    assert result.model_path is not None
    assert [str(violation) for violation in check(result.model_path, target).violations] == []
    assert batch_of(result.model_path) == (1 if TARGETS[target].static_shapes else "batch")
    found = compare(digits_folded, result.model_path, pictures)
    (output,) = found.outputs
    assert output.snr > 15  # 8 bits on noise leave 18 to 30 dB


def test_the_batch_that_is_stated_is_fixed(digits_bn: Path, pictures: Samples, tmp_path: Path) -> None:
    shapes = {"image": (4, 1, 16, 16)}
    result = calibrate(
        digits_bn, data=pictures, target="xnnpack", method="minmax", refine=(), input_shapes=shapes, output=tmp_path
    )
    assert result.model_path is not None
    assert batch_of(result.model_path) == 4


def test_openvino_says_what_onnx_runtime_says(digits_bn: Path, pictures: Samples, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
    result = calibrate(digits_bn, data=pictures, target="openvino", method="minmax", refine=(), output=tmp_path)
    compiled = openvino.Core().compile_model(str(result.model_path), "CPU")
    session = ort.InferenceSession(str(result.model_path), providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"image": pictures.images})
    theirs = compiled(pictures.images)[0]
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.95


def test_constants_are_quantized_where_everything_is(model_of: ModelOf, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "m": random.uniform(0.5, 2, (4, 1, 1)).astype(np.float32),
        "three": np.array(3, np.float32),
    }
    nodes = "c = Conv(x, w) k = Mul(c, m) a = Add(k, three) y = Sigmoid(a)"
    model = model_of("float[n,3,8,8] x", "float y", nodes, weights)
    samples = Samples(random.normal(size=(16, 3, 8, 8)).astype(np.float32))
    result = calibrate(model, data=samples, target="qnn", output=tmp_path / "out")
    assert result.model_path is not None
    assert check(result.model_path, "qnn").clean
    stored = {tensor.name: tensor for tensor in onnx.load(result.model_path).graph.initializer}
    assert "m" not in stored
    assert "three" not in stored
    (output,) = compare(model.SerializeToString(), result.model_path, samples).outputs
    assert output.snr > 25


def test_a_grid_made_of_sizes_is_a_constant_where_sizes_are_fixed(model_of: ModelOf, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "three": np.array(3),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
    }
    nodes = """c = Conv(x, w) s = Shape(x) i = Gather(s, three) e = Cast <to = 1> (i) r = Range(zero, e, one)
               g = Add(r, half) y = Add(c, g)"""
    model = model_of("float[n,3,8,8] x", "float y", nodes, weights)
    samples = Samples(random.normal(size=(16, 3, 8, 8)).astype(np.float32))
    result = calibrate(model, data=samples, target="qnn", refine=(), output=tmp_path / "out")
    assert result.model_path is not None
    assert check(result.model_path, "qnn").clean
    operators = [node.op_type for node in onnx.load(result.model_path).graph.node if "Linear" not in node.op_type]
    assert operators == ["Conv", "Add"]
    (output,) = compare(model.SerializeToString(), result.model_path, samples).outputs
    assert output.snr > 25
