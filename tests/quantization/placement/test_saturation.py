"""How far values matter, by what the definitions of the operators say."""

from collections.abc import Callable
from math import inf

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.placement.place import place
from dfq_deploy.quantization.placement.saturation import saturations
from dfq_deploy.targets.catalog import find_target

ModelOf = Callable[..., onnx.ModelProto]

NUMBERS: dict[str, NDArray[np.generic]] = {
    name: np.array(value, np.float32)
    for name, value in {"half": 0.5, "minus": -2, "one": 1, "three": 3, "six": 6, "zero": 0}.items()
}

# nodes from x to y, and the interval within which x matters
CASES = [
    ("y = Relu(x)", (0, inf)),
    ("y = Clip(x, zero, six)", (0, 6)),
    ("y = Clip(x, , six)", (-inf, 6)),
    ("y = HardSwish(x)", (-3, inf)),
    ("y = HardSigmoid <alpha = 0.25, beta = 0.5> (x)", (-2, 2)),
    ("a = Mul(x, half) y = Relu(a)", (0, inf)),
    ("a = Mul(minus, x) b = Add(a, one) y = Clip(b, zero, six)", (-2.5, 0.5)),
    ("a = Sub(one, x) b = Div(a, half) y = Clip(b, zero, six)", (-2, 1)),
    ("a = Add(x, three) g = Clip(a, zero, six) m = Mul(x, g) y = Div(m, six)", (-3, inf)),
    ("a = Add(x, three) g = Clip(a, zero, six) d = Div(g, six) y = Mul(d, x)", (-3, inf)),
    ("g = HardSigmoid <alpha = 0.5, beta = 0.5> (x) y = Mul(x, g)", (-1, inf)),
    ("s = Mul(x, half) t = Add(s, one) a = Add(t, three) g = Clip(a, zero, six) y = Mul(t, g)", (-8, inf)),
    ("a = Relu(x) b = Clip(x, minus, one) y = Add(a, b)", (-2, inf)),
]


@pytest.mark.parametrize(("nodes", "wanted"), CASES)
def test_beyond_its_interval_a_value_makes_no_difference(
    model_of: ModelOf, nodes: str, wanted: tuple[float, float]
) -> None:
    used = {name: array for name, array in NUMBERS.items() if name in nodes}
    model = model_of("float[n] x", "float[n] y", nodes, used)
    loaded = load(model)
    found = saturations([loaded.graph.inputs[0]])["x"]
    assert found == pytest.approx((wanted[0] - abs(wanted[0]) / 16, wanted[1] + abs(wanted[1]) / 16))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = np.linspace(-20, 20, 801, dtype=np.float32)
    whole, kept = (session.run(None, {"x": given})[0] for given in (values, values.clip(*wanted).astype(np.float32)))
    np.testing.assert_allclose(kept, whole, atol=1e-6)
    for end in (end for end in wanted if np.isfinite(end)):
        inside = np.array([end, end + np.sign(np.mean(np.clip(wanted, -9, 9)) - end) * 0.1], np.float32)
        ends = session.run(None, {"x": inside})[0]
        assert ends[0] != ends[1]


@pytest.mark.parametrize(
    ("nodes", "wanted", "error"),
    [
        ("y = Sigmoid(x)", (-10, 10), 1e-4),
        ("y = Tanh(x)", (-5, 5), 1e-4),
        ("a = Mul(x, half) y = Tanh(a)", (-10, 10), 1e-4),
        ("y = Mish(x)", (-6, inf), 0.015),
        ("y = Gelu(x)", (-4, inf), 0.003),
        ("s = Sigmoid(x) y = Mul(x, s)", (-6, inf), 0.015),
        ("a = Mul(x, three) s = Sigmoid(a) y = Mul(s, x)", (-6 / 3, inf), 0.015),
    ],
)
def test_beyond_the_interval_of_a_flat_function_a_value_makes_hardly_a_difference(
    model_of: ModelOf, nodes: str, wanted: tuple[float, float], error: float
) -> None:
    used = {name: array for name, array in NUMBERS.items() if name in nodes}
    model = model_of("float[n] x", "float[n] y", nodes, used, opset=20)
    found = saturations([load(model).graph.inputs[0]])["x"]
    assert found == pytest.approx((wanted[0] - abs(wanted[0]) / 16, wanted[1] + abs(wanted[1]) / 16))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = np.linspace(-60, 60, 2401, dtype=np.float32)
    whole, kept = (session.run(None, {"x": given})[0] for given in (values, values.clip(*wanted).astype(np.float32)))
    assert 1e-6 < np.abs(whole - kept).max() < error


@pytest.mark.parametrize(
    "nodes",
    [
        "y = Exp(x)",
        "m = Mul(x, minus) s = Sigmoid(m) y = Mul(x, s)",
        "y = Mul(x, x)",
        "a = Relu(x) y = Add(a, x)",
        "g = Clip(x, one, six) y = Mul(x, g)",
        "a = Mul(x, minus) g = Clip(a, zero, six) y = Mul(x, g)",
        "a = Add(x, three) g = Clip(a, zero, six) b = Add(g, one) y = Mul(x, b)",
        "y = Div(one, x)",
    ],
)
def test_where_every_value_matters(model_of: ModelOf, nodes: str) -> None:
    used = {name: array for name, array in NUMBERS.items() if name in nodes}
    loaded = load(model_of("float[n] x", "float[n] y", nodes, used))
    assert saturations([loaded.graph.inputs[0]]) == {}


def test_an_output_of_the_graph_matters_everywhere(model_of: ModelOf) -> None:
    loaded = load(model_of("float[n] x", "float[n] a, float[n] y", "a = Mul(x, half) y = Relu(a)", HALF))
    assert saturations([loaded.graph.inputs[0]]) == {}


HALF = {"half": NUMBERS["half"]}


def test_a_convolution_before_a_hard_swish_is_not_quantized_for_what_it_drops(model_of: ModelOf) -> None:
    weights = {"w": np.ones((4, 3, 1, 1), np.float32), "v": np.ones((2, 4, 1, 1), np.float32)}
    loaded = load(model_of("float[n,3,4,4] x", "float y", "c = Conv(x, w) h = HardSwish(c) y = Conv(h, v)", weights))
    assert place(loaded, find_target("cpu")).limits["c"] == pytest.approx((-3.1875, inf))
