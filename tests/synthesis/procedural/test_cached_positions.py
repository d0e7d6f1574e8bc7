"""Positions of tokens that go on behind a cache."""

import numpy as np
import pytest

from dfq_deploy.graph.inputs import model_inputs
from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.procedural.inputs import rule_of
from tests.conftest import ModelOf

INPUTS = "int64[n,6] input_ids, int64[n,{mask}] attention_mask, int64[n,6] position_ids"
CACHE = "float[n,2,10,4] past_key_values"
TABLES = {"words": np.ones((20, 4), np.float32), "places": np.ones((14, 4), np.float32)}
NODES = """
    e = Gather(words, input_ids) c = Cast <to = 1> (attention_mask) m = ReduceSum(c)
    {positions} s = Add(e, p) t = Mul(s, m) {past}"""
LOOKED_UP, COMPUTED = "p = Gather(places, position_ids)", "f = Cast <to = 1> (position_ids) p = Unsqueeze(f, last)"


@pytest.mark.parametrize(
    ("positions", "cached", "wanted"),
    [
        (COMPUTED, True, [10, 11, 12, 13, 14, 15]),
        (LOOKED_UP, True, [10, 11, 12, 13, 13, 13]),
        (COMPUTED, False, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_positions_begin_where_the_cache_ends(
    model_of: ModelOf, positions: str, cached: bool, wanted: list[int]
) -> None:
    past = "r = ReduceSum(past_key_values) y = Add(t, r)" if cached else "y = Identity(t)"
    inputs = f"{INPUTS}, {CACHE}" if cached else INPUTS
    nodes = NODES.format(positions=positions, past=past)
    proto = model_of(inputs.format(mask=16), "float[n,6,4] y", nodes, TABLES | {"last": np.array([-1])})
    model = load(proto)
    port = next(port for port in model_inputs(model) if port.name == "position_ids")
    rule = rule_of(model, port, {})
    assert rule.draw(3, 0).tolist() == [wanted] * 3
    assert f"is {wanted[0]} to {wanted[-1]}, one after another (positions behind the cache)" in str(rule)
