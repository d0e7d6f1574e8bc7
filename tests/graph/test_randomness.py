"""Outputs that random numbers decide are named, and not compared."""

import numpy as np
import pytest

from dfq_deploy.evaluation.compare import compare
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.randomness import random_outputs
from dfq_deploy.samples.samples import Samples
from tests.conftest import ModelOf

WEIGHT = {"w": np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32)}
OUTPUTS = "float[n,3] mean, float[n,3] drawn, int64[2] size"


def nodes(draw: str) -> str:
    return f"mean = MatMul(x, w) z = {draw} drawn = Add(mean, z) size = Shape(drawn)"


@pytest.mark.parametrize("draw", ["RandomNormalLike(mean)", "RandomUniformLike(mean)", "Bernoulli(mean)"])
def test_what_depends_on_drawn_numbers_is_named(model_of: ModelOf, draw: str) -> None:
    found = random_outputs(load(model_of("float[n,4] x", OUTPUTS, nodes(draw), WEIGHT)))
    assert list(found) == ["drawn"]
    assert found["drawn"].startswith(draw.partition("(")[0])


def test_a_seed_makes_two_sessions_draw_the_same(model_of: ModelOf) -> None:
    draw = "RandomNormalLike <seed = 1.0> (mean)"
    assert random_outputs(load(model_of("float[n,4] x", OUTPUTS, nodes(draw), WEIGHT))) == {}


def test_random_outputs_are_not_compared(model_of: ModelOf) -> None:
    """A model compared with itself was BAD, with -0.9 dB."""
    text = nodes("RandomNormalLike(mean)")
    model = model_of("float[n,4] x", OUTPUTS, text, WEIGHT).SerializeToString()
    found = compare(model, model, Samples(np.random.default_rng(1).normal(0, 1, (8, 4)).astype(np.float32)))
    assert [output.name for output in found.outputs] == ["mean", "size"]
    assert found.outputs[0].snr == np.inf
    assert list(found.random) == ["drawn"]
    assert found.left_out == ()
    assert "random numbers decide them in each run: drawn (RandomNormalLike" in found.warnings[0]
