"""What writes a tensor, in the forms that exporters give it."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.verdict.noise.roles import role_of

ModelOf = Callable[..., onnx.ModelProto]

WEIGHT = np.ones((4, 4, 1, 1), np.float32)
CONSTANTS = {
    "w": WEIGHT, "three": np.float32(3), "six": np.float32(6), "zero": np.float32(0), "sixth": np.float32(1 / 6),
}  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "role"),
    [
        ("t = HardSwish(x)", "hard-swish"),
        ("g = HardSigmoid<alpha=0.1667>(x) t = Mul(x, g)", "hard-swish"),
        ("s = Add(x, three) c = Clip(s, zero, six) d = Div(c, six) t = Mul(d, x)", "hard-swish"),
        ("g = Sigmoid(x) t = Mul(x, g)", "hard-swish"),
        ("r = Relu(x) g = Sigmoid(r) t = Mul(x, g)", ""),
        ("t = GlobalAveragePool(x)", "pooled"),
        ("p = GlobalAveragePool(x) c = Conv(p, w) r = Relu(c) e = Conv(r, w) t = HardSigmoid(e)", "pooled"),
        ("p = GlobalAveragePool(x) t = Mul(x, p)", ""),
        ("s = Softmax<axis=1>(x) t = Transpose<perm=[0,2,3,1]>(s)", "softmax"),
        ("r = Relu(x) s = Sigmoid(x) t = Concat<axis=1>(r, s)", "mixed"),
        ("t = Conv(x, w)", ""),
    ],
)
def test_roles(model_of: ModelOf, nodes: str, role: str) -> None:
    used = {name: array for name, array in CONSTANTS.items() if f" {name}" in nodes}
    model = load(model_of("float[n,4,5,5] x", "float[n,a,b,c] y", f"{nodes} y = Identity(t)", used))
    values = {value.name: value for node in model.graph for value in node.outputs}
    assert role_of(values["t"]) == role


def test_a_concat_inside_the_network_joins_no_heads(model_of: ModelOf) -> None:
    weight = np.ones((4, 8, 1, 1), np.float32)
    nodes = "r = Relu(x) s = Sigmoid(x) t = Concat<axis=1>(r, s) y = Conv(t, w)"
    model = load(model_of("float[n,4,5,5] x", "float[n,4,5,5] y", nodes, {"w": weight}))
    values = {value.name: value for node in model.graph for value in node.outputs}
    assert role_of(values["t"]) == ""
