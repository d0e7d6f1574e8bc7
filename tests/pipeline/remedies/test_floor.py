"""Floors as text, and what reaches them; the expectations are written by hand."""

from dataclasses import replace

import numpy as np
import pytest

from dfq_deploy import OptionError, Samples
from dfq_deploy.evaluation.detection.head_errors import HeadErrors
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.remedies.floor import Floor, Limits, limits_of
from dfq_deploy.verdict.agreement.held_out import HeldOut
from dfq_deploy.verdict.agreement.measure import Agreement, measure_agreement
from tests.conftest import ModelOf

EYE = np.eye(4, dtype=np.float32)


@pytest.mark.parametrize(
    ("text", "floor"),
    [
        ("ok", Floor()),
        (" OK ", Floor()),
        ("none", Floor("none")),
        ("agreement=99", Floor("agreement", 99)),
        ("snr=-2.5", Floor("snr", -2.5)),
    ],
)
def test_floors_are_read(text: str, floor: Floor) -> None:
    assert Floor.parse(text) == floor
    assert Floor.parse(str(floor)) == floor


@pytest.mark.parametrize(
    "text", ["", "good", "ok=1", "agreement", "agreement=0", "agreement=101", "snr=", "snr=nan", "top1=3"]
)
def test_other_floors_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="is no floor; give ok, none, agreement=99"):
        Floor.parse(text)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"max_time": -1}, "max_time=-1 must be a number of seconds"),
        ({"max_time": "long"}, "max_time='long' must be"),
        ({"max_time": float("inf")}, "max_time=inf must be"),
        ({"max_slowdown": 0.9}, "max_slowdown=0.9 must be a factor from 1 on"),
        ({"max_slowdown": True}, "max_slowdown=True must be"),
    ],
)
def test_limits_out_of_range_are_refused(keywords: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        limits_of(keywords)


def test_the_time_is_bounded() -> None:
    assert Limits().seconds(3.0) == 60
    assert Limits().seconds(200.0) == 100
    assert Limits(max_time=5).seconds(200.0) == 5


def agreement(model_of: ModelOf, noise: float, outputs: str = "float[n,4] y") -> Agreement:
    """Of ``y = x`` with one that adds ``noise`` to the first output."""
    bias = np.array([noise, 0, 0, 0], np.float32)
    exact = model_of("float[n,4] x", outputs, "y = MatMul(x, w)", {"w": EYE})
    rough = model_of("float[n,4] x", outputs, "z = MatMul(x, w) y = Add(z, b)", {"w": EYE, "b": bias})
    images = np.tile(EYE, (32, 1)) * np.float32(2)
    held = HeldOut("procedural", Samples(images), calibrated=False)
    return measure_agreement(load(exact), load(rough), [held])


def test_a_signal_to_noise_ratio_is_that_of_the_worst_output(model_of: ModelOf) -> None:
    # A signal of 4 in each row against noise of 0.04.
    found = agreement(model_of, 0.2)
    assert Floor("snr", 20).figure(found) == pytest.approx(20, abs=1e-4)
    assert Floor("snr", 19.9).is_reached(found)
    assert not Floor("snr", 20.1).is_reached(found)
    assert Floor("snr", 1).unit(found) == "dB"


def test_ok_and_agreement_go_by_the_prediction(model_of: ModelOf) -> None:
    good, bad = agreement(model_of, 0.01), agreement(model_of, 3.0)
    assert good.predicted is not None
    assert bad.predicted is not None
    for floor in (Floor(), Floor("agreement", 90)):
        assert floor.is_reached(good)
        assert not floor.is_reached(bad)
        assert floor.unit(good) == "%"
        assert floor.figure(bad) == bad.predicted.value < floor.figure(good) == good.predicted.value
    assert Floor("none").is_reached(bad)


def test_ok_is_aimed_at_with_a_margin_where_noise_decides(model_of: ModelOf) -> None:
    found = replace(agreement(model_of, 0.15), predicted=None)
    assert 20 < Floor().figure(found) < 25
    assert Floor().is_reached(found)
    assert not Floor().is_met(found)
    assert Floor().without_margin.is_met(found)
    assert not Floor().without_margin.is_met(replace(agreement(model_of, 0.3), predicted=None))
    assert Floor("snr", 20).is_met(found)
    assert Floor().is_met(agreement(model_of, 0.01))
    assert not Floor().is_met(agreement(model_of, 3.0))


@pytest.mark.parametrize(("percent", "is_met"), [(91.0, False), (96.0, True)])
def test_ok_is_aimed_at_with_a_margin_where_classes_decide(
    model_of: ModelOf, monkeypatch: pytest.MonkeyPatch, percent: float, is_met: bool
) -> None:
    found = agreement(model_of, 0.01)
    assert found.predicted is not None
    found = replace(found, predicted=replace(found.predicted, value=percent))
    assert Floor().is_reached(found)
    assert Floor().is_met(found) is is_met
    assert Floor("agreement", 91).is_met(found)


@pytest.mark.parametrize(
    ("overlap", "noise", "is_met"), [(0.97, 0.15, False), (0.985, 0.15, True), (0.97, 0.05, True), (0.85, 0.05, False)]
)
def test_boxes_are_to_hold_where_outputs_have_no_margin(
    model_of: ModelOf, overlap: float, noise: float, is_met: bool
) -> None:
    found = agreement(model_of, noise)
    (kind,) = found.kinds
    head = HeadErrors(30.0, 30.0, overlap, 0.8, 0.8, 0.01)
    kind = replace(kind, comparison=replace(kind.comparison, head=head))
    assert Floor().is_met(Agreement((kind,), None)) is is_met


def test_no_classes_no_agreement(model_of: ModelOf) -> None:
    found = replace(agreement(model_of, 0.2), predicted=None)
    assert Floor().unit(found) == "dB"
    assert not Floor("agreement", 1).is_reached(found)
    map_of_values = model_of("float[n,4,8] x", "float[n,4,8] y", "y = Relu(x)", {})
    with pytest.raises(OptionError, match="agreement=99 needs class scores, and the model has none; give snr=20"):
        Floor("agreement", 99).check(load(map_of_values))
