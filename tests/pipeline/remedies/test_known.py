"""Ranges that operators tell; the least values are found by evaluating the functions."""

from dataclasses import replace

import numpy as np
import pytest

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.remedies.known import LEAST, gate_headroom, known_ranges, scaled_ranges
from dfq_deploy.quantization.overrides import Override, Overrides
from dfq_deploy.quantization.placement.place import Placement
from tests.conftest import ModelOf

U8 = QuantType(8, signed=False, symmetric=False)

WEIGHTS = {
    "w": np.ones((4, 4, 1, 1), np.float32),
    "three": np.array(3, np.float32),
    "six": np.array(6, np.float32),
    "zero": np.array(0, np.float32),
}


def encoded(*names: str, low: float = -2.0, high: float = 5.0) -> dict[str, Encoding]:
    return {name: Encoding.of_range(Range(low, high), U8) for name in names}


def test_the_least_values_are_those_of_the_functions() -> None:
    x = np.linspace(-6, 6, 1_000_001)
    sigmoid = 1 / (1 + np.exp(-x))
    curves = {
        "HardSwish": x * np.clip(x + 3, 0, 6) / 6,
        "Swish": x * sigmoid,
        "Mish": x * np.tanh(np.log1p(np.exp(x))),
        "Gelu": 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    }
    assert curves.keys() == LEAST.keys()
    for name, curve in curves.items():
        assert curve.min() - 1e-3 <= LEAST[name] <= curve.min() + 1e-3, name


@pytest.mark.parametrize(
    ("nodes", "low", "high"),
    [
        ("y = Sigmoid(x)", 0, 1),
        ("y = HardSigmoid(x)", 0, 1),
        ("y = Softmax<axis = 1>(x)", 0, 1),
        ("y = Tanh(x)", -1, 1),
        ("y = HardSwish(x)", -0.375, 5),
        ("s = Sigmoid(x) y = Mul(x, s)", -0.2785, 5),
        ("a = Add(x, three) c = Clip(a, zero, six) d = Div(c, six) y = Mul(x, d)", -0.375, 5),
    ],
)
def test_what_operators_tell(model_of: ModelOf, nodes: str, low: float, high: float) -> None:
    words = nodes.replace(",", " ").replace(")", " ").split()
    weights = {name: array for name, array in WEIGHTS.items() if name in words}
    model = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] y", nodes, weights))
    (entry,) = known_ranges(model, encoded("x", "y"))
    assert entry.match == "y"
    assert entry.range is not None
    assert (entry.range.low, entry.range.high) == pytest.approx((low, high), abs=0.02)


def test_what_is_known_already_is_not_given(model_of: ModelOf) -> None:
    model = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] y", "y = Sigmoid(x)", {}))
    assert known_ranges(model, encoded("y", low=0, high=1)) == ()
    assert known_ranges(model, encoded("x")) == ()


def test_gates_behind_global_pooling_get_headroom(model_of: ModelOf) -> None:
    text = "p = GlobalAveragePool(x) c = Conv(p, w) r = Relu(c) d = Conv(r, w) s = Sigmoid(d) y = Mul(x, s)"
    model = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] y", text, {"w": WEIGHTS["w"]}))
    found = {entry.match: entry.factor for entry in gate_headroom(model, encoded("x", "p", "r", "d", "s", "y"))}
    assert found == {"p": 2, "r": 2, "d": 2}  # a Sigmoid's range is known, and x and y have many values a sample


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ("s = Sigmoid(x) t = Tanh(x) y = Concat<axis = 1>(s, t)", (-1, 1)),
        ("s = Sigmoid(x) r = Conv(x, w) y = Concat<axis = 1>(s, r)", None),
        ("s = Sigmoid(x) y = Concat<axis = 1>(s, x)", None),
    ],
    ids=["both", "one", "input"],
)
def test_a_group_of_one_encoding_has_the_range_of_all_that_write_into_it(
    model_of: ModelOf, nodes: str, told: tuple[float, float] | None
) -> None:
    weights = {"w": WEIGHTS["w"]} if "w)" in nodes else {}
    model = load(model_of("float[n,4,8,8] x", "float[n,8,8,8] y", nodes, weights))
    group = frozenset({"s", "y", "t" if "t =" in nodes else "r" if "r =" in nodes else "x"})
    found = {entry.match: entry.range for entry in known_ranges(model, encoded(*group), [group])}
    if told is None:
        assert found == {}
    else:
        assert found.keys() == group
        for span in found.values():
            assert span is not None
            assert (span.low, span.high) == pytest.approx(told, abs=0.02)


def test_scaled_ranges_leave_inputs_and_bounded_functions_as_they_are(model_of: ModelOf) -> None:
    text = "c = Conv(x, w) s = Sigmoid(c) y = Mul(c, s)"
    model = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] y", text, {"w": WEIGHTS["w"]}))
    found = {entry.match: entry.factor for entry in scaled_ranges(model, encoded("x", "c", "s", "y"), 1.5)}
    assert found == {"c": 1.5, "y": 1.5}


def test_a_group_is_scaled_once(model_of: ModelOf) -> None:
    model = load(model_of("float[n,4,8,8] x", "float[n,8,8,8] y", "c = Conv(x, w) y = Concat<axis = 1>(c, x)", WEIGHTS))
    group = frozenset({"x", "c", "y"})
    entries = scaled_ranges(model, encoded("x", "c", "y"), 1.5, [group])
    placement = Placement(dict.fromkeys(group, U8), shared=(group,), limits={}, weights={}, biases={}, left_float=())
    measured = dict.fromkeys(group, Range(-2, 5))
    assert Overrides(entries=entries).ranged(measured, placement) == dict.fromkeys(group, Range(-3, 7.5))
    limited = replace(placement, limits=dict.fromkeys(group, (0.0, 6.0)))
    assert Overrides(entries=entries).ranged(measured, limited) == dict.fromkeys(group, Range(0, 6))


def test_factors_follow_each_other_and_the_samples(model_of: ModelOf) -> None:
    """A range that one set of samples gave would be another one's mistake, above all where channels were scaled."""
    twice, half = (Override("tensor", "y", factor=factor) for factor in (2.0, 0.5))
    placement = Placement({"y": U8}, shared=(), limits={}, weights={}, biases={}, left_float=())
    for high in (1.0, 300.0):
        found = Overrides(entries=(twice, half, half)).ranged({"y": Range(-1, high)}, placement)
        assert found == {"y": Range(-0.5, high / 2)}
