"""Which method is chosen for which file at which width."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dfq_deploy import calibrate, synthesize
from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.choice import choose
from tests.conftest import CHECKOUT, ModelOf

DIGITS = CHECKOUT / "examples/digits/digits.onnx"
WITH_STATISTICS = CHECKOUT / "examples/digits/digits_bn.onnx"
ATTENTION = next((CHECKOUT / "examples/digits_vit").glob("*.onnx"))


@pytest.mark.parametrize(
    ("file", "bits", "method", "reason"),
    [
        (DIGITS, 8, "procedural", "take seconds"),
        (WITH_STATISTICS, 8, "procedural", "take seconds"),
        (WITH_STATISTICS, 4, "anchored", "about as much as samples that match BatchNormalization"),
        (DIGITS, 4, "anchored", "about as much as samples that match BatchNormalization"),
        (ATTENTION, 8, "procedural", "take seconds"),
        (ATTENTION, 4, "psaq", "attention"),
    ],
)
def test_file_and_width_decide(file: Path, bits: int, method: str, reason: str) -> None:
    choice = choose(load(file), (), bits)
    assert choice.method == method
    assert reason in choice.reason


def large(model_of: ModelOf, *, normalized: bool) -> ir.Model:
    arrays = {"w": np.ones((8, 3, 3, 3), np.float32), "v": np.ones((8, 10), np.float32), "one": np.ones(8, np.float32)}
    norm = "b = BatchNormalization(c, one, one, one, one)" if normalized else "b = Relu(c)"
    nodes = f"c = Conv(x, w) {norm} p = GlobalAveragePool(b) f = Flatten(p) y = MatMul(f, v)"
    return load(model_of("float[n,3,96,96] x", "float[n,10] y", nodes, arrays))


@pytest.mark.parametrize(
    ("normalized", "method", "reason"),
    [
        (True, "deepinversion", "match BatchNormalization lose least"),
        (False, "anchored", "give the same network exported with it as --teacher"),
    ],
)
def test_large_images_are_inverted_where_there_are_statistics(
    model_of: ModelOf, normalized: bool, method: str, reason: str
) -> None:
    choice = choose(large(model_of, normalized=normalized), (), 4)
    assert choice.method == method
    assert reason in choice.reason


def test_a_teacher_with_statistics_counts() -> None:
    assert choose(load(DIGITS), [load(WITH_STATISTICS)], 4).method == "deepinversion"


def test_integers_and_what_the_twin_cannot_run_are_drawn(model_of: ModelOf) -> None:
    weights = {"t": np.ones((9, 4), np.float32), "w": np.ones((4, 3), np.float32)}
    tokens = model_of("int64[n,5] x", "float[n,5,3] y", "e = Gather(t, x) y = MatMul(e, w)", weights)
    assert choose(load(tokens), (), 4).method == "procedural"


def test_calibrate_needs_no_method_and_says_what_it_took(tmp_path: Path) -> None:
    result = calibrate(DIGITS, count=32, refine="none", output=tmp_path / "out")
    assert result.samples.method == "procedural"
    kept = json.loads((tmp_path / "out/report.json").read_text())["calibration"]
    assert kept["synth"] == "procedural"
    assert kept["synth_reason"] == choose(load(DIGITS), (), 8).reason
    given = calibrate(DIGITS, synth="auto", count=32, refine="none")
    assert {name: str(one) for name, one in given.encodings.items()} == {
        name: str(one) for name, one in result.encodings.items()
    }
    assert onnx.load(tmp_path / "out/model.qdq.onnx").graph.node


def test_synthesize_takes_the_same_choice() -> None:
    assert synthesize(WITH_STATISTICS, synth="auto", count=4).method == "procedural"
