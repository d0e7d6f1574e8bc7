"""Inputs of which nothing tells the values are drawn by a guess, and said to be."""

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.verdict.sanity.drawn_inputs import guessed_finding, unknown_finding
from dfq_deploy.verdict.sanity.findings import sanity_findings
from tests.conftest import ModelOf

RANGE = {"hours": (0.0, 23.0)}


def _drawn(model: ir.Model, ranges: dict[str, tuple[float, float]] | None = None) -> Samples:
    return synthesize_from(
        model, "procedural", (), count=16, preprocess=None, seed=0, device="cpu", ranges=ranges or {}
    )  # fmt: skip


def _counts(model_of: ModelOf) -> ir.Model:
    """Features, and a count that is no index."""
    weights = {"w": np.random.default_rng(0).normal(0, 1, (8, 4)).astype(np.float32)}
    body = "f = Cast<to=1>(hours)\ns = Add(x, f)\ny = MatMul(s, w)"
    return load(model_of("float[n,8] x, int64[n,8] hours", "float[n,4] y", body, weights))


def test_integers_without_a_table_are_a_guess(model_of: ModelOf) -> None:
    model = _counts(model_of)
    found = next(entry for entry in sanity_findings(model, _drawn(model)) if entry.code == "inputs-guessed")
    assert found.level == "CHECK"
    assert found.message == "'hours' takes integers, and nothing in the model tells which: 0 and 1 were drawn"
    assert found.options == "--input-range hours:LO,HI"


def test_a_stated_range_and_real_inputs_are_none(model_of: ModelOf) -> None:
    model = _counts(model_of)
    assert guessed_finding(model, _drawn(model, RANGE), RANGE) is None
    real = Samples(np.zeros((4, 8), np.float32), extra={"hours": np.zeros((4, 8), np.int64)})
    assert guessed_finding(model, real, {}) is None


def test_indices_of_a_table_are_none(model_of: ModelOf) -> None:
    weights = {"table": np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32)}
    model = load(model_of("int64[n,5] ids", "float[n,5,8] y", "e = Gather(table, ids)\ny = Relu(e)", weights))
    assert guessed_finding(model, _drawn(model), {}) is None


def test_a_main_input_of_integers_is_one_where_it_was_drawn(model_of: ModelOf) -> None:
    body = "f = Cast<to=1>(ticks)\ny = MatMul(f, w)"
    weights = {"w": np.random.default_rng(0).normal(0, 1, (8, 4)).astype(np.float32)}
    model = load(model_of("int64[n,8] ticks", "float[n,4] y", body, weights))
    samples = _drawn(model)
    found = guessed_finding(model, samples, {})
    assert found is not None
    assert "'ticks'" in found.message
    given = Samples(samples.images, method="text")
    assert guessed_finding(model, given, {}) is None


def _features(model_of: ModelOf, name: str = "x", size: int = 8, nodes: str = "y = MatMul({}, w)") -> ir.Model:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(0, 1, (size, 4)).astype(np.float32)}
    if "m)" in nodes:
        weights["m"] = rng.normal(0, 1, size).astype(np.float32)
    if "d)" in nodes:
        weights["d"] = rng.uniform(1, 2, size).astype(np.float32)
    if "Normalization" in nodes:
        weights |= {key: np.abs(rng.normal(1, 0.1, 4)).astype(np.float32) for key in "gbcv"}
    return load(model_of(f"float[n,{size}] {name}", "float[n,4] y", nodes.format(name), weights))


def test_features_of_unknown_values_are_a_guess(model_of: ModelOf) -> None:
    """A network of raw features kept 51 to 71 % of its answers, and the verdict was OK."""
    model = _features(model_of)
    samples = _drawn(model)
    found = next(entry for entry in sanity_findings(model, samples) if entry.code == "inputs-guessed")
    assert found.level == "CHECK"
    assert "input 'x'" in found.message
    assert "--input-range x:LO,HI" in found.remedy
    assert unknown_finding(model, samples, {"x": (0.0, 16.0)}) is None
    assert unknown_finding(model, Samples(samples.images), {}) is None


def test_what_is_only_added_tells_nothing(model_of: ModelOf) -> None:
    model = _features(model_of, nodes="s = Sub({}, m)\ny = MatMul(s, w)")
    assert unknown_finding(model, _drawn(model), {}) is not None


def test_what_the_graph_or_the_kind_tells_is_none(model_of: ModelOf) -> None:
    standardized = _features(model_of, nodes="c = Sub({}, m)\ns = Div(c, d)\ny = MatMul(s, w)")
    normalized = _features(model_of, nodes="h = MatMul({}, w)\ny = BatchNormalization(h, g, b, c, v)")
    for model in (standardized, normalized, _features(model_of, "input_audio", 64)):
        assert unknown_finding(model, _drawn(model), {}) is None


def test_pictures_are_left_to_their_preprocess(model_of: ModelOf) -> None:
    weights = {"k": np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)).astype(np.float32)}
    model = load(model_of("float[n,3,8,8] x", "float[n,4,6,6] y", "y = Conv(x, k)", weights))
    assert "inputs-guessed" not in {entry.code for entry in sanity_findings(model, _drawn(model))}
