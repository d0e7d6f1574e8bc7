"""Columns of ids, each of which indexes a table of its own."""

import numpy as np
import pytest

from dfq_deploy.graph.inputs import model_inputs
from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.procedural.inputs import rule_of
from tests.conftest import ModelOf

TABLES = {name: np.ones((rows, 4), np.float32) for name, rows in (("a", 7), ("b", 3), ("c", 900))}
COLUMNS = {name: np.array(column) for name, column in (("first", 0), ("second", 1), ("third", -1))}

TAKEN = """
    i = Gather <axis = {axis}> (ids, first) j = Gather <axis = {axis}> (ids, second)
    k = Gather <axis = {axis}> (ids, third)
    p = Gather(a, i) q = Gather(b, j) r = Gather(c, k) y = Sum(p, q, r)"""


@pytest.mark.parametrize(("shape", "axis"), [("n,3", 1), ("n,5,3", 2), ("n,5,3", -1)])
def test_each_column_reaches_the_end_of_its_table(model_of: ModelOf, shape: str, axis: int) -> None:
    nodes = TAKEN.format(axis=axis)
    model = load(model_of(f"int64[{shape}] ids, float[n,4] x", "float y", f"{nodes} z = Identity(x)", TABLES | COLUMNS))
    port = next(port for port in model_inputs(model) if port.name == "ids")
    drawn = rule_of(model, port, {}).draw(3000, 0)
    flat = drawn.reshape(-1, 3)
    assert flat.min(axis=0).tolist() == [0, 0, 0]
    assert flat[:, :2].max(axis=0).tolist() == [6, 2]
    assert 850 < flat[:, 2].max() < 900
    assert "the table that each column indexes" in str(rule_of(model, port, {}))


def test_some_of_the_columns_are_drawn_for_the_smallest_table(model_of: ModelOf) -> None:
    nodes = """
        i = Gather <axis = 1> (ids, first) j = Gather <axis = 1> (ids, third)
        p = Gather(a, i) q = Gather(c, j) y = Add(p, q)"""
    model = load(model_of("int64[n,3] ids, float[n,4] x", "float y", f"{nodes} z = Identity(x)", TABLES | COLUMNS))
    port = next(port for port in model_inputs(model) if port.name == "ids")
    assert rule_of(model, port, {}).draw(500, 0).max() == 6


INDEXED = {
    "GatherND": ("u = Unsqueeze(ids, two) y = GatherND(a, u)", 6),
    "GatherElements": ("y = GatherElements <axis = 1> (x, ids)", 8),
    "ScatterElements": ("f = Cast <to = 1> (ids) y = ScatterElements <axis = 1> (x, ids, f)", 8),
    "Gather of a computed tensor": ("r = Relu(x) y = Gather <axis = 1> (r, ids)", 8),
}


@pytest.mark.parametrize("form", INDEXED)
def test_indices_reach_the_end_of_the_axis(form: str, model_of: ModelOf) -> None:
    nodes, last = INDEXED[form]
    arrays = {"two": np.array([2])} if "two" in nodes else {}
    arrays |= {"a": TABLES["a"]} if "(a," in nodes else {}
    model = load(model_of("int64[n,3] ids, float[n,9] x", "float y", f"{nodes} z = Identity(x)", arrays))
    port = next(port for port in model_inputs(model) if port.name == "ids")
    rule = rule_of(model, port, {})
    drawn = rule.draw(500, 0)
    assert (drawn.min(), drawn.max(), rule.is_guess) == (0, last, False)


def test_indices_of_the_batch_are_a_guess(model_of: ModelOf) -> None:
    model = load(model_of("int64[n,3] ids, float[n,9] x", "float y", "y = Gather <axis = 0> (x, ids)", {}))
    port = next(port for port in model_inputs(model) if port.name == "ids")
    assert rule_of(model, port, {}).is_guess
