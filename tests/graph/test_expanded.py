"""A class token that is expanded to the batch, and what OpenVINO makes of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dfq_deploy import Samples, calibrate, load
from dfq_deploy.checking import check
from dfq_deploy.graph.expanded import expanded_concats
from dfq_deploy.graph.query import name_of

ModelOf = Callable[..., onnx.ModelProto]

RANDOM = np.random.default_rng(0)

ARRAYS = {
    **{"w": RANDOM.normal(size=(4, 3, 4, 4)).astype(np.float32), "bias": RANDOM.normal(size=4).astype(np.float32)},
    **{"token": RANDOM.normal(size=(1, 1, 4)).astype(np.float32), "flat": np.array([0, 4, 4]), "zero": np.array(0)},
    **{"first": np.array([0]), "one": np.array([1]), "four": np.array([4])},
    **{"place": RANDOM.normal(size=(1, 5, 4)).astype(np.float32), "m": RANDOM.normal(size=(4, 8)).astype(np.float32)},
}

TOKENS = """c = Conv <strides = [4, 4]> (x, w, bias) r = Reshape(c, flat) t = Transpose <perm = [0, 2, 1]> (r)
            s = Shape(t) n = Gather(s, zero) u = Unsqueeze(n, first) k = Concat <axis = 0> (u, one, four)
            e = Expand(token, k)
            j = Concat <axis = 1> (e, t) p = Add(j, place) y = MatMul(p, m)"""


@pytest.fixture
def tokens(model_of: ModelOf) -> onnx.ModelProto:
    return model_of("float[n,3,8,8] x", "float[n,5,8] y", TOKENS, ARRAYS)


def test_only_an_expand_of_open_size_counts(model_of: ModelOf, tokens: onnx.ModelProto) -> None:
    assert [name_of(node.outputs[0]) for node in expanded_concats(load(tokens).graph)] == ["j"]
    static = model_of("float[1,3,8,8] x", "float[1,5,8] y", TOKENS, ARRAYS)
    assert list(expanded_concats(load(static).graph)) == []
    without = {name: array for name, array in ARRAYS.items() if name != "bias"}
    unbiased = model_of("float[n,3,8,8] x", "float[n,5,8] y", TOKENS.replace(", bias", ""), without)
    assert list(expanded_concats(load(unbiased).graph)) == []


def test_openvino_gets_a_closed_batch_there(tokens: onnx.ModelProto, tmp_path: Path) -> None:
    samples = Samples(np.random.default_rng(1).normal(size=(16, 3, 8, 8)).astype(np.float32))
    sizes = {}
    for target in ("cpu", "openvino"):
        result = calibrate(
            tokens, data=samples, target=target, method="minmax", refine=(), floor="none", output=tmp_path / target
        )
        assert result.model_path is not None
        sizes[target] = onnx.load(result.model_path).graph.input[0].type.tensor_type.shape.dim[0].dim_value
    assert sizes == {"cpu": 0, "openvino": 1}
    assert check(tmp_path / "openvino/model.qdq.onnx", "openvino").clean
    report = check(tmp_path / "cpu/model.qdq.onnx", "openvino")
    assert [(entry.rule, entry.operator) for entry in report.errors] == [("expanded-concat", "Concat")]
    openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
    compiled = openvino.Core().compile_model(str(tmp_path / "openvino/model.qdq.onnx"), "CPU")
    session = ort.InferenceSession(tmp_path / "openvino/model.qdq.onnx", providers=["CPUExecutionProvider"])
    for image in samples.images:
        (expected,) = session.run(None, {"x": image[None]})
        assert np.abs(compiled(image[None])[0] - expected).max() < 0.05 * np.ptp(expected)
