"""Layers that a file keeps in float on purpose."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import calibrate
from dfq_deploy.checking import check
from dfq_deploy.quantization.kept_float import KEPT_FLOAT, kept_float, kept_layers
from dfq_deploy.quantization.placement.place import BEHIND_PLUGIN, KEPT, Placement
from tests.conftest import ModelOf

RNG = np.random.default_rng(0)


@pytest.fixture
def kept(model_of: ModelOf, tmp_path: Path) -> onnx.ModelProto:
    """Two convolutions, of which the first one is kept in float."""
    weights = {name: RNG.normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32) for name in "wv"}
    nodes = "c = Conv <pads = [1,1,1,1]> (x, w) r = Relu(c) y = Conv <pads = [1,1,1,1]> (r, v)"
    float_file = model_of("float[n,4,8,8] x", "float[n,4,8,8] y", nodes, weights)
    calibrate(float_file, synth="procedural", count=8, keep_float=["Conv_0"], floor="none", output=tmp_path / "out")
    return onnx.load(tmp_path / "out/model.qdq.onnx")


def test_the_file_lists_them_and_breaks_no_rule(kept: onnx.ModelProto) -> None:
    assert check(kept, "cpu").errors == ()
    (entry,) = (entry for entry in kept.metadata_props if entry.key == KEPT_FLOAT)
    assert json.loads(entry.value) == ["Conv_0"]


def test_a_layer_whose_sibling_reads_the_same_integers_breaks_none(model_of: ModelOf, tmp_path: Path) -> None:
    weights = {name: RNG.normal(0, 0.3, (8, 8)).astype(np.float32) for name in "qk"}
    nodes = "a = MatMul(x, q) b = MatMul(x, k) y = Add(a, b)"
    float_file = model_of("float[n,8] x", "float[n,8] y", nodes, weights)
    out = tmp_path / "out"
    calibrate(float_file, synth="procedural", count=8, keep_float=["MatMul_1"], floor="none", output=out)
    written = onnx.load(out / "model.qdq.onnx")
    assert next(node for node in written.graph.node if node.name == "MatMul_1").input[0] != "x"
    assert check(written, "cpu").errors == ()


@pytest.mark.parametrize("value", ['["other"]', "no JSON", '{"Conv_0": 1}', "[" * 100_000])
def test_a_file_that_does_not_say_so_breaks_the_rule(kept: onnx.ModelProto, value: str) -> None:
    (entry,) = (entry for entry in kept.metadata_props if entry.key == KEPT_FLOAT)
    entry.value = value
    assert kept_float({KEPT_FLOAT: value}) <= {"other"}
    assert [(error.rule, error.node) for error in check(kept, "cpu").errors] == [("float-weighted", "Conv_0")]


def test_what_stays_float_for_another_reason_is_not_listed() -> None:
    rows = (
        ("a", "Conv", KEPT),
        ("b", "Conv", "its reason"),
        ("c", "Conv", BEHIND_PLUGIN),
        ("d", "Conv", "it is noisy"),
    )
    placement = Placement({}, shared=(), limits={}, weights={}, biases={}, left_float=rows, kept=frozenset({"a", "d"}))
    assert kept_layers(placement) == ["a", "c", "d"]
