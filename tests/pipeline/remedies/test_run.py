"""From below the floor to it, on the example's network with a fault built in; real digits say whether it is true."""

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfq_deploy import ModelError, OptionError, Samples, calibrate, synthesize
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.evaluation.latency import Speed
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.fit import CalibrationPlan
from dfq_deploy.pipeline.remedies import attempts, measures, search
from dfq_deploy.pipeline.remedies.attempts import TOO_LONG, Bench, Measured, OutOfTime, Setting
from dfq_deploy.pipeline.remedies.floor import MARGIN, Floor
from dfq_deploy.pipeline.remedies.measures import REMEDIES, Remedy, Result, Trial, Trials
from dfq_deploy.pipeline.remedies.run import GAINLESS
from dfq_deploy.pipeline.remedies.steps import Remedies
from dfq_deploy.pipeline.remedies.worst import Rung
from dfq_deploy.pipeline.results import Calibration
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.progress import SILENT
from dfq_deploy.quantization import encode
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.dynamic import Activations
from dfq_deploy.quantization.overrides import Overrides
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.targets.catalog import find_target
from examples.digits import data
from tests.conftest import ModelOf

OUTLIER = 400

GIVEN: dict[str, Any] = {"synth": "procedural", "count": 48, "preprocess": data.PREPROCESS}


def speed(ratio: float) -> Speed:
    return Speed(1, 1.0, 1 / ratio, ratio, ratio - 0.02, ratio + 0.02, 24)


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


def test_what_gains_only_on_the_inputs_of_the_attempts_is_not_kept(
    outlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = Floor.figure

    def turned(floor: Floor, agreement: Any) -> float:
        """Better is worse where a result is measured on more inputs than an attempt."""
        found = figure(floor, agreement)
        return -found if agreement.kinds[-1].comparison.count > attempts.TRIED else found

    monkeypatch.setattr(Floor, "figure", turned)
    monkeypatch.setattr(search, "REMEDIES", named("equalize"))
    given = {**GIVEN, "count": 160}
    found = remedies_of(calibrate(outlier, output=tmp_path / "out", floor="snr=25", max_time=600, **given))
    (step,) = found.steps
    assert (step.name, step.kept, step.reason) == ("equalize", False, GAINLESS)
    assert found.said == "with all samples and on all inputs the remedies gain nothing, so none was kept"
    calibrate(outlier, output=tmp_path / "bare", floor="none", **given)
    assert files(tmp_path / "out") == files(tmp_path / "bare")


def test_attempts_go_on_with_all_inputs_where_a_part_was_too_kind(
    outlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = Floor.figure

    def kind(floor: Floor, agreement: Any) -> float:
        """20 dB too much where a result is measured on a part of the inputs."""
        found = figure(floor, agreement)
        return found + 20 if agreement.kinds[-1].comparison.count <= attempts.TRIED else found

    monkeypatch.setattr(Floor, "figure", kind)
    monkeypatch.setattr(search, "REMEDIES", named("equalize", "keep_float"))
    given = {**GIVEN, "count": 160}
    result = calibrate(outlier, output=tmp_path / "out", floor="snr=45", max_time=600, **given)
    found = remedies_of(result)
    equalized, kept_float = found.steps
    assert (equalized.name, kept_float.name) == ("equalize", "keep-float")
    assert equalized.after is not None
    assert equalized.after > 45 > kept_float.before
    assert (found.stopped, found.reached, found.last) == ("floor", True, kept_float.after)
    assert found.first < kept_float.before
    assert found.said == "the floor (snr=45) is reached"
    assert found.max_time == 600
    assert found.seconds >= equalized.seconds + kept_float.seconds
    assert len(result.samples) == 160


def test_no_time_no_remedy(outlier: Path, tmp_path: Path) -> None:
    found = remedies_of(calibrate(outlier, output=tmp_path / "out", max_time=0, **GIVEN))
    calibrate(outlier, output=tmp_path / "bare", floor="none", **GIVEN)
    assert (found.steps, found.stopped, found.reached) == ((), "max-time", False)
    assert found.said == "the time for remedies is up (0 s; --max-time)"
    assert files(tmp_path / "out") == files(tmp_path / "bare")


def test_what_is_too_slow_is_dropped(outlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "slowdown", lambda *_: (1.2, 1.17))
    monkeypatch.setattr(Bench, "speed", lambda *_: speed(1.05))
    monkeypatch.setattr(search, "REMEDIES", named("equalize"))
    (step,) = remedies_of(calibrate(outlier, **GIVEN)).steps
    assert (step.name, step.kept, step.slowdown) == ("equalize", False, 1.2)
    assert step.reason == "it is slower than allowed (--max-slowdown 1.15)"
    (step,) = remedies_of(calibrate(outlier, max_slowdown=1.25, **GIVEN)).steps
    assert step.kept


def test_what_is_of_no_use_may_be_slower_while_it_is_faster_than_float(
    outlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "slowdown", lambda *_: (1.7, 1.6))
    monkeypatch.setattr(Bench, "speed", lambda *_: speed(1.3))
    monkeypatch.setattr(search, "REMEDIES", named("equalize"))
    (step,) = remedies_of(calibrate(outlier, **GIVEN)).steps
    assert (step.kept, step.slowdown) == (True, 1.7)
    (step,) = remedies_of(calibrate(outlier, max_slowdown=1.15, **GIVEN)).steps
    assert not step.kept


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

    def remedy(bench: Bench, best: Measured, floor: Floor) -> Trials:
        yield Trial("headroom", "nothing", lambda: make(best))

    return (remedy,)


@pytest.mark.parametrize(
    ("problem", "reason", "stopped"),
    [
        (ModelError("no twin"), "it failed: no twin", "exhausted"),
        (OutOfTime(), "the time was up", "max-time"),
        (OutOfTime(TOO_LONG), TOO_LONG, "max-time"),
        (None, "it gains nothing", "exhausted"),
    ],
    ids=["fails", "time", "too long", "no gain"],
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


def test_an_attempt_measures_no_range_again_and_comes_to_the_same(
    digits_folded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load(digits_folded)
    samples = synthesize(digits_folded, synth="procedural", count=16, preprocess=data.PREPROCESS)
    unknown: list[int] = []
    measure = encode.measure_ranges

    def counted(
        model: Any, types: Any, calibrator: Any, samples: Any, preprocess: Any, progress: Any, known: Any
    ) -> Any:
        unknown.append(len(types.keys() - known.keys()))
        return measure(model, types, calibrator, samples, preprocess, progress, known)

    monkeypatch.setattr(encode, "measure_ranges", counted)
    plan = CalibrationPlan(find_target("cpu"), Bits(), find_plugin("calibrators", "minmax")(), None, data.PREPROCESS)
    first = Setting(plan, samples)
    other = first.overriding(keep_float=["/features/features.0/Conv"])
    remembering, fresh = (Bench(source, Runner(source), None, (), 1, tmp_path) for _ in range(2))
    remembering.fitted(first)
    again, alone = remembering.fitted(other), fresh.fitted(other)
    remembering.fitted(first.planned(refine=("equalize", "bias")))
    assert [count > 0 for count in unknown] == [True, False, True, True]
    assert again.quantized.encodings.keys() == alone.quantized.encodings.keys()
    for name, encoding in alone.quantized.encodings.items():
        np.testing.assert_array_equal(encoding.scale, again.quantized.encodings[name].scale)


@pytest.mark.parametrize(
    ("steps", "total", "fits"),
    [(25, 100, True), (25, 200, False), (1, 20, True), (1, 30, False)],
    ids=["40 s", "80 s", "200 s by one step", "300 s by one step"],
)
def test_an_attempt_that_will_not_be_done_in_time_ends_early(
    monkeypatch: pytest.MonkeyPatch, steps: int, total: int, fits: bool
) -> None:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(attempts, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    deadline = attempts._Deadline(SILENT, 60.0)
    deadline.start("layers", total)
    now.seconds = 10.0
    if fits:
        deadline.advance(steps)
    else:
        with pytest.raises(OutOfTime, match=TOO_LONG):
            deadline.advance(steps)
    now.seconds = 61.0
    with pytest.raises(OutOfTime, match=r"^$"):
        deadline.advance()


def test_after_what_takes_too_long_the_next_is_tried(outlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "REMEDIES", (*only(OutOfTime(TOO_LONG)), *named("equalize")))
    found = remedies_of(calibrate(outlier, **GIVEN))
    assert [(step.reason, step.kept) for step in found.steps] == [(TOO_LONG, False), ("", True)]
    assert found.stopped == "floor"


@pytest.mark.parametrize(
    ("results", "tried"),
    [
        (("kept", "kept"), [4, 5]),
        (("too much", "kept"), [4, 2]),
        (("too much", "too much", "too much"), [4, 2, 1]),
        (("no gain", "no gain"), [4, 5]),
    ],
)
def test_as_many_layers_are_tried_as_the_missing_decibels_need(
    monkeypatch: pytest.MonkeyPatch, results: tuple[Result, ...], tried: list[int]
) -> None:
    rungs = [Rung(count, (f"c{count}",), gain) for count, gain in ((1, 1.0), (2, 3.0), (4, 6.0), (5, 9.0))]
    monkeypatch.setattr(measures, "what_hurts", lambda *_, **__: None)
    monkeypatch.setattr(measures, "nodes_to_keep", lambda *_: rungs)
    quantized = SimpleNamespace(prepared=SimpleNamespace(model=None), encodings={})
    plan = SimpleNamespace(target=find_target("cpu"), overrides=Overrides(), device="cpu")
    best: Any = SimpleNamespace(
        fitted=SimpleNamespace(quantized=quantized, reference=None, choices={"refine": []}),
        setting=SimpleNamespace(plan=plan), agreement=None,
        sets=[SimpleNamespace(samples=Samples(np.zeros((1, 1), np.float32)))],
    )  # fmt: skip
    monkeypatch.setattr(Floor, "figure", lambda *_: 20.0)
    monkeypatch.setattr(Floor, "unit", lambda *_: "dB")
    bench: Any = SimpleNamespace(source=None, left=lambda: 60.0)
    trials = named("keep_float")[0](bench, best, Floor())
    seen = [next(trials).what]
    with suppress(StopIteration):
        for result in results:
            seen.append(trials.send(result).what)
    assert [int(what.split()[3]) for what in seen] == tried


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


@pytest.mark.parametrize(("activations", "margin"), [("dynamic", 0.0), ("static", MARGIN)])
def test_ranges_of_each_input_need_no_margin(
    model_of: ModelOf, monkeypatch: pytest.MonkeyPatch, activations: Activations, margin: float
) -> None:
    rng, margins = np.random.default_rng(0), list[float]()
    weights = {name: rng.normal(0, 0.06, (256, 256)).astype(np.float32) for name in ("v", "w")}
    model = model_of("float[n,256] x", "float[n,256] y", "m = MatMul(x, v) r = Tanh(m) y = MatMul(r, w)", weights)

    def is_met(floor: Floor, _: object) -> bool:
        margins.append(floor.margin)
        return True

    monkeypatch.setattr(Floor, "is_met", is_met)
    samples = Samples(rng.normal(size=(64, 256)).astype(np.float32))
    calibrate(load(model), data=samples, activations=activations, refine="none")
    assert set(margins) == {margin}
