"""Inputs beside the main one that are pictures too."""

from pathlib import Path

import numpy as np
import pytest

from dfq_deploy import calibrate, synthesize
from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES
from tests.conftest import ModelOf

WEIGHTS = {"w": np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)}
NODES = "c = Conv(one, w) d = Conv({other}, w) s = Sub(c, d) y = Abs(s)"


@pytest.mark.parametrize("shape", ["3,16,16", "16,16,3"])
def test_two_pictures_are_drawn_alike(model_of: ModelOf, shape: str) -> None:
    turn = "" if shape.startswith("3") else "<perm = [0, 3, 1, 2]>"
    nodes = (
        f"a = Transpose {turn} (one) b = Transpose {turn} (two) s = Sub(a, b) y = Abs(s)"
        if turn
        else NODES.format(other="two")
    )
    model = model_of(f"float[n,{shape}] one, float[n,{shape}] two", "float y", nodes, {} if turn else WEIGHTS)
    preprocess = PREPROCESSES["zero-one"]
    samples = synthesize(load(model), synth="procedural", count=8, preprocess=preprocess)
    other = samples.extra["two"]
    assert other.shape == samples.images.shape
    assert not np.array_equal(other, samples.images)
    assert (other.min() >= 0) & (other.max() <= 1)
    assert other.std() == pytest.approx(samples.images.std(), rel=0.4)
    bare = synthesize(load(model), synth="procedural", count=8).extra["two"]
    assert (bare.mean(), bare.std()) == pytest.approx((0, 1), abs=1e-3)
    assert np.abs(np.diff(bare.reshape(8, -1))).mean() < 0.8  # neighbors of noise differ by 1.1 in the mean


def test_what_its_name_calls_something_else_is_none(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("float[n,3,16,16] one, float[n,3,16,16] state", "float y", NODES.format(other="state"), WEIGHTS)
    found = calibrate(model, synth="procedural", count=8, floor="none", output=tmp_path / "out")
    assert any("'state' is drawn from a normal distribution" in said for said in found.report["warnings"])
