"""Gelu in the forms that exporters write."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from dfq_deploy.graph.passes.fuse_gelu import fuse_gelu

ModelOf = Callable[..., onnx.ModelProto]

CONSTANTS: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {
    "root": np.array(np.sqrt(2), np.float32),
    "inverse": np.array(np.sqrt(0.5), np.float32),
    "one": np.array([1], np.float32),
    "half": np.array(0.5, np.float32),
    "third": np.array(1 / 3, np.float32),
}
START = "a = Div(x, root) e = Erf(a) s = Add(e, one) "


@pytest.mark.parametrize(
    ("nodes", "operators"),
    [
        (START + "m = Mul(x, s) y = Mul(m, half)", ["Gelu"]),
        (START + "h = Mul(x, half) y = Mul(h, s)", ["Gelu"]),
        (START + "t = Mul(half, s) y = Mul(t, x)", ["Gelu"]),
        ("a = Mul(inverse, x) e = Erf(a) s = Add(one, e) m = Mul(x, s) g = Mul(m, half) y = Relu(g)", ["Gelu", "Relu"]),
        (START + "m = Mul(x, s) y = Mul(m, third)", ["Div", "Erf", "Add", "Mul", "Mul"]),
        (START + "m = Mul(x, s) y = Mul(m, half) z = Identity(e)", ["Div", "Erf", "Add", "Mul", "Mul", "Identity"]),
    ],
)
def test_gelu(model_of: ModelOf, nodes: str, operators: list[str]) -> None:
    outputs = "float[n,5] y" + (", float[n,5] z" if "Identity" in nodes else "")
    used = {name: array for name, array in CONSTANTS.items() if name in nodes}
    proto = model_of("float[n,5] x", outputs, nodes, used)
    model = ir.from_proto(proto)
    fused = fuse_gelu(model)
    assert [node.op_type for node in model.graph] == operators
    assert bool(fused) == ("Gelu" in operators)
    x = np.random.default_rng(0).normal(0, 2, (4, 5)).astype(np.float32)
    wanted, given = (
        ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]
        for one in (proto, ir.to_proto(model))
    )
    np.testing.assert_allclose(given, wanted, atol=1e-6)
