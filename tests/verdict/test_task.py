"""What the figure of a stated task means, and that --task decides what is judged."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from dfq_deploy import calibrate, evaluate
from dfq_deploy.evaluation.task_errors import Judged, TaskErrors
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.task import task_decibels, task_finding
from tests.conftest import ModelOf

RNG = np.random.default_rng(0)
WEIGHTS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {"k": (4, 3, 3, 3), "b": (4, 4, 1, 1), "s": (2, 4, 1, 1)}.items()
} | {"four": np.array([0, 4, -1]), "two": np.array([0, 2, -1])}


@pytest.mark.parametrize(
    ("task", "figure", "level", "decibels"),
    [
        ("segment", 0.9, "OK", 20.0),
        ("segment", 0.8, "CHECK", 20 - 20 * math.log10(2)),
        ("segment", 0.7, "BAD", 20 - 20 * math.log10(3)),
        ("regress", 0.95, "OK", 20.0),
        ("regress", 0.92, "CHECK", 20 - 20 * math.log10(1.6)),
        ("regress", 0.89, "BAD", 20 - 20 * math.log10(2.2)),
        ("regress", -math.inf, "BAD", -math.inf),
        ("embed", 0.99, "OK", 20 + 10 * math.log10(2)),
        ("embed", 0.96, "CHECK", 20 - 10 * math.log10(2)),
        ("embed", 0.94, "BAD", 20 - 10 * math.log10(3)),
        ("embed", 1.0, "OK", math.inf),
    ],
)
def test_levels_and_decibels(task: Judged, figure: float, level: str, decibels: float) -> None:
    errors = TaskErrors(task, "y", figure)
    finding = task_finding(errors, 16, "photographs")
    assert (finding.level, finding.code, bool(finding.remedy)) == (level, "task", level != "OK")
    assert task_decibels(errors) == pytest.approx(decibels)


def test_the_sentence_says_what_is_compared() -> None:
    message = task_finding(TaskErrors("regress", "points", 0.93), 16, "data").message
    assert message == "output 'points': values are off by 7.0 % of their spread on 16 inputs (data, --task regress)"


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, model_of: ModelOf) -> Path:
    """Outputs that could be anything: boxes and scores of 64 cells, classes, coordinates or features."""
    nodes = (
        "c = Conv<pads=[1,1,1,1]>(x, k) r = Relu(c) d = Conv(r, b) e = Conv(r, s) "
        "f = Reshape(d, four) boxes = Transpose<perm = [0, 2, 1]>(f) g = Reshape(e, two) h = Sigmoid(g) "
        "scores = Transpose<perm = [0, 2, 1]>(h)"
    )
    path = tmp_path_factory.mktemp("several") / "several.onnx"
    onnx.save(model_of("float[n,3,8,8] x", "float[n,64,4] boxes, float[n,64,2] scores", nodes, WEIGHTS), path)
    return path


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory, model_of: ModelOf) -> Path:
    """One row of numbers, which looks like class scores."""
    nodes = "c = Conv(x, k) r = Relu(c) p = GlobalAveragePool(r) q = Conv(p, b) y = Flatten(q)"
    path = tmp_path_factory.mktemp("row") / "row.onnx"
    onnx.save(model_of("float[n,3,8,8] x", "float[n,4] y", nodes, WEIGHTS), path)
    return path


@pytest.mark.parametrize(
    ("which", "task", "code", "figures"),
    [
        ("row", None, "agreement", "agreement"),
        ("row", "classify", "agreement", "agreement"),
        ("row", "regress", "task", "task"),
        ("row", "embed", "task", "task"),
        ("several", None, "detector", "detector"),
        ("several", "detect", "detector", "detector"),
        ("several", "segment", "task", "task"),
        ("several", "regress", "task", "task"),
    ],
)
def test_the_task_decides_what_is_judged(
    request: pytest.FixtureRequest, tmp_path: Path, which: str, task: str | None, code: str, figures: str
) -> None:
    path = request.getfixturevalue(which)
    result = calibrate(path, synth="procedural", count=16, task=task, floor="none", output=tmp_path / "out")
    report: dict[str, Any] = result.report.to_json()
    codes = {finding["code"] for finding in report["verdict"]["findings"]}
    assert codes & {"agreement", "detector", "task", "output-noise"} == {code}
    assert figures in report["comparison"]
    if code == "task":
        assert report["comparison"]["task"]["name"] == task
        assert 0.5 < report["comparison"]["task"]["figure"] <= 1
    found = evaluate(path, result.model_path or "", Samples(RNG.random((32, 3, 8, 8), np.float32)), task=task)
    codes = {finding.code for finding in found.verdict.findings}
    assert codes & {"agreement", "detector", "task", "output-noise"} == {code}
