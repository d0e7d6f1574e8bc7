"""Ranges are measured at several sizes where these are open, and nothing is closed by that."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from dfq_deploy.graph.loading import load_notes
from dfq_deploy.graph.passes.open_sizes import reopen
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.runtime.other_sizes import at_other_sizes
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]

KERNEL = {"w": np.ones((2, 3, 3, 3), np.float32)}


Weights = dict[str, NDArray[Any]]


def opened(model_of: ModelOf, shape: str, nodes: str, weights: Weights) -> tuple[ir.Model, tuple[str, ...]]:
    model = load_sized(model_of(f"float[{shape}] x", "float y", nodes, weights))
    notes = load_notes(model)
    reopen(model)
    return model, notes


@pytest.mark.parametrize(
    ("shape", "nodes", "weights", "base", "others"),
    [
        ("n,3,h,w", "y = Conv(x, w)", KERNEL, (3, 224, 224), [(3, 128, 128), (3, 320, 320)]),
        ("n,t,20", "y = MatMul(x, w)", {"w": np.ones((20, 4), np.float32)}, (64, 20), [(16, 20), (128, 20)]),
        # It runs at one size alone.
        ("n,t,20", "y = Reshape(x, w)", {"w": np.array([0, 2000])}, (100, 20), []),
    ],
)
def test_samples_get_the_sizes_that_run(
    model_of: ModelOf,
    shape: str,
    nodes: str,
    weights: Weights,
    base: tuple[int, ...],
    others: list[tuple[int, ...]],
) -> None:
    model, notes = opened(model_of, shape, nodes, weights)
    samples = Samples(np.random.default_rng(0).random((2, *base), np.float32))
    found = list(at_other_sizes(model, samples))
    assert [more.images.shape[1:] for more in found] == others
    assert all(samples.images.min() <= more.images.min() <= more.images.max() <= samples.images.max() for more in found)
    assert ("its ranges at" in notes[0]) == bool(others)


def test_caches_beside_a_single_token_begin_with_one_step(model_of: ModelOf) -> None:
    inputs = "float[n,1,4] token, float[n,2,t,4] past_key, float[n,2,t,4] past_value"
    nodes = "k = ReduceSum <keepdims = 0> (past_key) v = ReduceSum <keepdims = 0> (past_value) y = Sum(token, k, v)"
    model = load_sized(model_of(inputs, "float[n,1,4] y", nodes, {}))
    reopen(model)
    rng = np.random.default_rng(0)
    caches = {name: rng.random((2, 2, 64, 4), np.float32) for name in ("past_key", "past_value")}
    samples = Samples(rng.random((2, 1, 4), np.float32), extra=caches)
    found = list(at_other_sizes(model, samples))
    assert [[more.extra[name].shape[1:] for name in caches] for more in found] == [
        [(2, length, 4)] * 2 for length in (1, 8, 128)
    ]
    assert all(np.array_equal(more.images, samples.images) for more in found)


def test_a_length_at_which_ids_would_leave_their_table_is_none(model_of: ModelOf) -> None:
    """Positions count the ids that are no padding, which is 1: of padding alone any length runs."""
    nodes = """
        e = Equal(ids, pad) m = Not(e) c = Cast <to = 7> (m) s = CumSum(c, axis) p = Add(s, pad)
        y = Gather(table, p)"""
    table = np.ones((100, 4), np.float32)
    weights = {"pad": np.array(1), "axis": np.array(1), "table": table}
    model = load_sized(model_of("int64[n,t] ids", "float[n,t,4] y", nodes, weights))
    reopen(model)
    samples = Samples(np.full((2, 64), 5), method="procedural")
    assert [more.images.shape[1:] for more in at_other_sizes(model, samples)] == [(16,)]


def test_a_size_that_is_stated_is_the_only_one(model_of: ModelOf) -> None:
    model = load_sized(model_of("float[n,3,h,w] x", "float y", "y = Conv(x, w)", KERNEL), {"x": (1, 3, 64, 64)})
    reopen(model)
    assert not list(at_other_sizes(model, Samples(np.zeros((1, 3, 64, 64), np.float32))))


def test_ranges_hold_what_other_sizes_give(model_of: ModelOf) -> None:
    # A sum over all steps grows with their number.
    nodes = "s = ReduceSum <keepdims = 0> (x, axes) y = MatMul(s, w)"
    weights = {"axes": np.array([1]), "w": np.ones((20, 4), np.float32)}
    model = model_of("float[n,t,20] x", "float[n,4] y", nodes, weights)
    stated, chosen = (
        calibrate(model, synth="noise", count=8, method="minmax", floor="none", input_shapes=shapes).encodings["s"]
        for shapes in ({"x": (1, 64, 20)}, None)
    )
    assert chosen.range.high > 1.2 * stated.range.high
