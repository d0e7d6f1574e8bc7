"""Variables of a Loop that no iteration changes."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dfq_deploy import calibrate
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.loop_invariants import free_invariants
from dfq_deploy.graph.writing import to_bytes
from tests.conftest import ModelOf

RNG = np.random.default_rng(0)
WIDTH = 256
ARRAYS = {
    "w": RNG.normal(0, 0.03, (WIDTH, WIDTH)).astype(np.float32), "three": np.array(3), "on": np.array(True),
    "b": RNG.normal(size=WIDTH).astype(np.float32),
}  # fmt: skip
STATE = f"float[n,{WIDTH}]"
WEIGHT = f"float[{WIDTH},{WIDTH}]"


def looped(model_of: ModelOf, returned: str = "v", extra: str = "", outputs: str = "y") -> onnx.ModelProto:
    """y = tanh(... tanh(x w + b) w + b), with w and b among the variables; ``returned`` is w behind each iteration."""
    body = (
        f"body (int64 i, bool c, {STATE} s, {WEIGHT} v, float[{WIDTH}] d) => "
        f"(bool c1, {STATE} t, {WEIGHT} {returned}, float[{WIDTH}] d1) "
        f"{{ c1 = Identity(c) m = MatMul(s, v) a = Add(m, d) t = Tanh(a) d1 = Identity(d) {extra} }}"
    )
    ends = {"y": f"{STATE} y", "y w1": f"{STATE} y, {WEIGHT} w1"}[outputs]
    return model_of(f"{STATE} x", ends, f"y, w1, b1 = Loop <body = {body}> (three, on, x, w, b)", ARRAYS)


def run(model: ir.Model | onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    content = to_bytes(model) if isinstance(model, ir.Model) else model.SerializeToString()
    found: np.ndarray = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]
    return found


def variables(model: ir.Model) -> int:
    (loop,) = [node for node in model.graph if node.op_type == "Loop"]
    body = loop.attributes["body"].as_graph()
    assert len(loop.inputs) == len(body.inputs) == len(body.outputs) + 1
    assert len(loop.outputs) == len(body.outputs) - 1
    return len(loop.outputs)


def test_they_are_read_from_outside(model_of: ModelOf) -> None:
    proto, x = looped(model_of), RNG.normal(size=(2, WIDTH)).astype(np.float32)
    model = ir.from_proto(proto)
    assert free_invariants(model) == ("w", "b")
    assert variables(model) == 1
    np.testing.assert_allclose(run(model, x), run(proto, x), atol=1e-6)
    assert free_invariants(model) == ()


@pytest.mark.parametrize(
    ("given", "freed"),
    [
        ({"returned": "v1", "extra": "v1 = Neg(v)"}, ("b",)),
        ({"returned": "v1", "extra": "e = Identity(v) v1 = Identity(e)"}, ("w", "b")),
        ({"outputs": "y w1"}, ("b",)),
    ],
    ids=["changes", "copied", "output of the graph"],
)
def test_what_changes_or_is_returned_stays(model_of: ModelOf, given: dict[str, str], freed: tuple[str, ...]) -> None:
    proto, x = looped(model_of, **given), RNG.normal(size=(2, WIDTH)).astype(np.float32)
    model = ir.from_proto(proto)
    assert free_invariants(model) == freed
    assert variables(model) == 3 - len(freed)
    np.testing.assert_allclose(run(model, x), run(proto, x), atol=1e-6)


def test_the_last_value_is_the_first_one(model_of: ModelOf) -> None:
    proto = looped(model_of)
    proto.graph.node.append(onnx.helper.make_node("Add", ["y", "b1"], ["z"]))
    proto.graph.output[0].name = "z"
    x = RNG.normal(size=(2, WIDTH)).astype(np.float32)
    model = ir.from_proto(proto)
    free_invariants(model)
    found = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"]).run(
        [
            "z",
        ],
        {"x": x},
    )[0]
    np.testing.assert_allclose(found, run(looped(model_of), x) + ARRAYS["b"], atol=1e-6)


def test_a_weight_among_them_is_quantized(model_of: ModelOf, tmp_path: Path) -> None:
    proto = looped(model_of)
    result = calibrate(proto, synth="procedural", count=16, floor="none", output=tmp_path / "out")
    written = onnx.load(result.model_path or "")
    types = {tensor.name: tensor.data_type for tensor in written.graph.initializer if list(tensor.dims) == [WIDTH] * 2}
    assert list(types.values()) == [onnx.TensorProto.INT8]
    x = RNG.normal(size=(2, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(run(written, x), run(proto, x), atol=0.05)
    assert variables(load(proto)) == 1
