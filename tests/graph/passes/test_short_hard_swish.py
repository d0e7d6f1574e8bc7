"""Hard swishes of four operators written in two."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from dfq_deploy.graph.passes.short_hard_swish import shorten_hard_swishes
from tests.graph.passes.test_fold_affine import model_of
from tests.graph.passes.test_fold_batch_norm import normal, outputs

NUMBERS = {
    "three": np.array([3], np.float32), "zero": np.array(0, np.float32), "six": np.array(6, np.float32),
    "sixth": np.array(1 / 6, np.float32), "two": np.array(2, np.float32),
}  # fmt: skip


def swish(order: str, shift: str = "three", low: str = "zero") -> ir.Model:
    """A hard swish; ``behind`` and ``before`` say where the division stands."""
    nodes = [
        helper.make_node("Add", ["x", shift], ["a"], name="add"),
        helper.make_node("Clip", ["a", low, "six"], ["g"], name="clip"),
    ]
    if order == "behind":
        nodes += [helper.make_node("Mul", ["x", "g"], ["m"]), helper.make_node("Div", ["m", "six"], ["y"])]
    else:
        nodes += [helper.make_node("Mul", ["g", "sixth"], ["h"]), helper.make_node("Mul", ["h", "x"], ["y"])]
    return model_of(nodes, NUMBERS)


@pytest.mark.parametrize("order", ["behind", "before"])
def test_four_operators_become_two(order: str) -> None:
    model, feeds = swish(order), {"x": 4 * normal(3, 1, 4, 6, 6)}
    wanted = outputs(model, feeds)[0]
    assert len(shorten_hard_swishes(model)) == 1
    assert [node.op_type for node in model.graph] == ["HardSigmoid", "Mul"]
    np.testing.assert_allclose(outputs(model, feeds)[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shift", "low"), [("two", "zero"), ("three", "two")])
def test_other_constants_make_no_hard_swish(shift: str, low: str) -> None:
    model = swish("behind", shift, low)
    assert shorten_hard_swishes(model) == ()
    assert len(model.graph) == 4


def test_a_gate_that_is_read_elsewhere_stays() -> None:
    nodes = [
        helper.make_node("Add", ["x", "three"], ["a"]), helper.make_node("Clip", ["a", "zero", "six"], ["g"]),
        helper.make_node("Mul", ["x", "g"], ["m"]), helper.make_node("Div", ["m", "six"], ["d"]),
        helper.make_node("Add", ["d", "g"], ["y"]),
    ]  # fmt: skip
    model = model_of(nodes, NUMBERS)
    assert shorten_hard_swishes(model) == ()
    assert len(model.graph) == 5
