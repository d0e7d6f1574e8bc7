"""From below the floor to it, on the example's network with a fault built in; real digits say whether it is true."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfq_deploy import ModelError, OptionError, Samples, calibrate
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.pipeline.remedies import attempts, search
from dfq_deploy.pipeline.remedies.attempts import Bench, Measured, OutOfTime, Setting
from dfq_deploy.pipeline.remedies.measures import REMEDIES, Remedy, Trial
from dfq_deploy.pipeline.remedies.steps import Remedies
from dfq_deploy.pipeline.results import Calibration
from examples.digits import data
from tests.conftest import ModelOf

OUTLIER = 400

GIVEN: dict[str, Any] = {"synth": "procedural", "count": 48, "preprocess": data.PREPROCESS}


def named(*names: str) -> list[Remedy]:
    """The remedies of these names, in their order."""
    return [remedy for remedy in REMEDIES if remedy.__name__.removeprefix("_") in names]


@pytest.fixture(scope="module")
def outlier(digits_folded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits network with one channel 400 times as large between two convolutions; in float it is the same."""
    model = onnx.load(digits_folded)
    convs = {node.name: node for node in model.graph.node if node.op_type == "Conv"}
    first, second = (convs[f"/features/features.6/features.6.{index}/Conv"] for index in (0, 3))
    factors = {first.input[1]: (0, OUTLIER), first.input[2]: (0, OUTLIER), second.input[1]: (1, 1 / OUTLIER)}
    for tensor in model.graph.initializer:
        if tensor.name in factors:
            axis, factor = factors[tensor.name]
            array = numpy_helper.to_array(tensor).copy()
            np.moveaxis(array, axis, 0)[0] *= factor
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    path = tmp_path_factory.mktemp("outlier") / "outlier.onnx"
    onnx.save(model, path)
    return path


def remedies_of(result: Calibration) -> Remedies:
    assert isinstance(result.report.remedies, Remedies)
    return result.report.remedies


def real_agreement(model: Path, result: Calibration, held_out: Samples) -> float:
    scores = compare(model, result.model_path or "", held_out).scores
    assert scores is not None
    return scores.agreement


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("model.qdq.onnx", "samples.npz", "encodings.json")}


def test_nothing_is_tried_and_no_byte_changes_where_the_floor_is_reached(digits_folded: Path, tmp_path: Path) -> None:
    found = remedies_of(calibrate(digits_folded, output=tmp_path / "ok", **GIVEN))
    bare = calibrate(digits_folded, output=tmp_path / "none", floor="none", **GIVEN)
    assert (found.steps, found.stopped, found.reached, found.first) == ((), "floor", True, found.last)
    assert bare.report.remedies is None
    assert files(tmp_path / "ok") == files(tmp_path / "none")


def test_an_outlier_is_equalized_away(outlier: Path, held_out: Samples, tmp_path: Path) -> None:
    bare = calibrate(outlier, output=tmp_path / "bare", floor="none", **GIVEN)
    mended = calibrate(outlier, output=tmp_path / "mended", **GIVEN)
    found = remedies_of(mended)
    (kept,) = [step for step in found.steps if step.kept]
    assert kept.name == "equalize"
    assert (found.stopped, found.reached, found.last) == ("floor", True, kept.after)
    assert found.first < found.last
    assert kept.gain == pytest.approx(found.last - found.first)
    assert mended.report.calibration.refine == ("equalize", "bias")
    before, after = (real_agreement(outlier, result, held_out) for result in (bare, mended))
    assert before < 97
    assert after >= 99
    written = json.loads((tmp_path / "mended/report.json").read_text())["remedies"]
    assert [step["name"] for step in written["steps"]][-1] == "equalize"
    assert written["said"] == "the floor (ok) is reached"
    assert written["steps"][-1]["slowdown"] == kept.slowdown is not None


def test_the_result_takes_all_samples_where_attempts_take_a_part(
    outlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    fitted = Bench.fitted

    def counted(bench: Bench, setting: Setting) -> Any:
        counts.append(len(setting.samples))
        return fitted(bench, setting)

    monkeypatch.setattr(Bench, "fitted", counted)
    monkeypatch.setattr(search, "REMEDIES", named("equalize"))
    given = {**GIVEN, "count": 160}
    mended = calibrate(outlier, output=tmp_path / "mended", floor="snr=25", max_time=600, **given)
    assert [step.name for step in remedies_of(mended).steps if step.kept] == ["equalize"]
    assert counts == [40, 40, 160]
    refine = (*mended.report.calibration.refine,)
    assert "equalize" in refine
    direct = calibrate(outlier, output=tmp_path / "direct", floor="none", refine=refine, **given)
    assert files(tmp_path / "mended") == files(tmp_path / "direct")
    assert len(direct.samples) == 160


def test_no_time_no_remedy(outlier: Path, tmp_path: Path) -> None:
    found = remedies_of(calibrate(outlier, output=tmp_path / "out", max_time=0, **GIVEN))
    calibrate(outlier, output=tmp_path / "bare", floor="none", **GIVEN)
    assert (found.steps, found.stopped, found.reached) == ((), "max-time", False)
    assert found.said == "the time for remedies is up (0 s; --max-time)"
    assert files(tmp_path / "out") == files(tmp_path / "bare")


def test_what_is_too_slow_is_dropped(outlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "slowdown", lambda *_: (1.2, 1.17))
    monkeypatch.setattr(search, "REMEDIES", named("equalize"))
    (step,) = remedies_of(calibrate(outlier, **GIVEN)).steps
    assert (step.name, step.kept, step.slowdown) == ("equalize", False, 1.2)
    assert step.reason == "it is slower than allowed (--max-slowdown 1.15)"
    (step,) = remedies_of(calibrate(outlier, max_slowdown=1.25, **GIVEN)).steps
    assert step.kept


def test_what_may_be_fast_enough_is_kept(outlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "slowdown", lambda *_: (1.4, 0.9))
    monkeypatch.setattr(search, "REMEDIES", named("equalize"))
    (step,) = remedies_of(calibrate(outlier, **GIVEN)).steps
    assert (step.kept, step.slowdown) == (True, 1.4)


def only(problem: Exception | None) -> Any:
    """Remedies that are one trial, which raises ``problem`` or changes nothing."""

    def make(best: Measured) -> Setting:
        if problem is not None:
            raise problem
        return best.setting

    def remedy(bench: Bench, best: Measured) -> Iterator[Trial]:
        yield Trial("headroom", "nothing", lambda: make(best))

    return (remedy,)


@pytest.mark.parametrize(
    ("problem", "reason", "stopped"),
    [
        (ModelError("no twin"), "it failed: no twin", "exhausted"),
        (OutOfTime(), "the time was up", "max-time"),
        (None, "it gains nothing", "exhausted"),
    ],
    ids=["fails", "time", "no gain"],
)
def test_what_does_not_help_is_dropped_and_said(
    outlier: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception | None, reason: str, stopped: str
) -> None:
    monkeypatch.setattr(search, "REMEDIES", only(problem))
    found = remedies_of(calibrate(outlier, **GIVEN))
    (step,) = found.steps
    assert (step.kept, step.reason, found.stopped, found.reached) == (False, reason, stopped, False)
    assert found.last == found.first
    assert step.to_json()["measured"] is (problem is None)


def test_an_attempt_ends_with_the_time(outlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "time", SimpleNamespace(perf_counter=lambda: float("inf")))
    found = remedies_of(calibrate(outlier, **GIVEN))
    assert [(step.reason, step.kept) for step in found.steps] == [("the time was up", False)]
    assert (found.stopped, found.last) == ("max-time", found.first)


def test_the_noisiest_layers_stay_float_where_nothing_cheaper_helps(
    outlier: Path, held_out: Samples, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search, "REMEDIES", named("keep_float"))
    monkeypatch.setattr(Bench, "slowdown", lambda *_: None)
    result = calibrate(outlier, keep_float="Gemm", output=tmp_path / "out", **GIVEN)
    assert remedies_of(result).reached
    floats = {row.name for row in result.report.left_float}
    assert {"/features/features.6/features.6.3/Conv", "/classifier/classifier.2/Gemm"} <= floats
    assert real_agreement(outlier, result, held_out) >= 99


def test_other_samples_are_mixed_in_and_judge_no_more(digits_folded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REMEDIES", named("procedural"))
    monkeypatch.setattr(search, "LEAST_GAIN", {"%": -100.0, "dB": -100.0})
    result = calibrate(digits_folded, synth="noise", count=24, preprocess=data.PREPROCESS, floor="agreement=100")
    (step,) = remedies_of(result).steps
    assert (step.name, step.what, step.kept) == ("samples", "24 procedural inputs among the samples", True)
    assert (len(result.samples), result.samples.method) == (48, "noise+procedural")
    alone = calibrate(digits_folded, synth="noise", count=24, preprocess=data.PREPROCESS, floor="none")
    np.testing.assert_array_equal(result.samples.images[:24], alone.samples.images)
    agreement = result.report.agreement
    assert agreement is not None
    assert {kind.kind: kind.calibrated for kind in agreement.kinds} == {
        "noise+procedural": True, "procedural": True, "photographs": False,
    }  # fmt: skip


def test_qnn_gets_sixteen_bits(outlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REMEDIES", named("sixteen_bits", "keep_float"))
    result = calibrate(outlier, target="qnn", **GIVEN)
    assert [(step.name, step.kept) for step in remedies_of(result).steps] == [("16-bit", True)]
    assert result.report.calibration.bits == "w8a16"
    assert {row.type for row in result.report.tensors if row.kind == "activation"} == {"u16"}


def test_an_agreement_is_no_floor_without_classes(model_of: ModelOf) -> None:
    weights = {"w": np.ones((4, 4, 3, 3), np.float32)}
    model = model_of("float[n,4,8,8] x", "float[n,4,6,6] y", "y = Conv(x, w)", weights)
    with pytest.raises(OptionError, match="needs class scores"):
        calibrate(model, synth="noise", count=8, floor="agreement=99")
