"""Which gains are kept, by what they cost in speed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dfq_deploy.evaluation.latency import Speed
from dfq_deploy.pipeline.remedies.attempts import Bench
from dfq_deploy.pipeline.remedies.floor import Floor, Limits
from dfq_deploy.pipeline.remedies.search import _Search


def result(figure: float, ratio: float, integer_layers: int = 4) -> Any:
    """A result of so many dB that is so many times as fast as float, with so many layers in integers."""
    return SimpleNamespace(agreement=figure, ratio=ratio, integer_layers=integer_layers)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Why a result is not kept after another; results of 20 dB reach the floor."""
    monkeypatch.setattr(Floor, "figure", lambda _, figure: figure)
    monkeypatch.setattr(Floor, "unit", lambda *_: "dB")
    monkeypatch.setattr(Floor, "is_reached", lambda _, figure: figure >= 20)
    monkeypatch.setattr(Floor, "is_met", lambda _, figure: figure >= 25)
    monkeypatch.setattr(Bench, "slowdown", lambda _, one, other: (one.ratio / other.ratio,) * 2)
    monkeypatch.setattr(Bench, "speed", lambda _, found: _speed(found.ratio))

    def judge(first: Any, found: Any, max_slowdown: float | None = None) -> str:
        bench: Any = Bench(None, None, None, (), 1, Path())  # type: ignore[arg-type]
        search = _Search(bench, first, first, Limits(max_slowdown=max_slowdown), 60.0)
        return search._judged(first.agreement, found)[1]

    return judge


def _speed(ratio: float) -> Speed:
    return Speed(1, 1.0, 1 / ratio, ratio, ratio - 0.02, ratio + 0.02, 24)


def test_a_margin_is_not_worth_falling_behind_float(judged: Any) -> None:
    assert judged(result(21, 1.0), result(23, 0.9)) == "it is slower than float, and the floor is reached without it"
    assert judged(result(21, 1.2), result(23, 1.1)) == ""


def test_what_is_slower_than_float_anyway_may_gain(judged: Any) -> None:
    assert judged(result(21, 0.8), result(23, 0.75)) == ""


def test_the_floor_is_worth_a_little_speed(judged: Any) -> None:
    assert judged(result(15, 1.0), result(21, 0.9)) == ""
    assert judged(result(15, 1.0), result(21, 0.8)) == "it is slower than allowed (--max-slowdown 1.15)"


def test_a_float_model_is_no_result(judged: Any) -> None:
    assert judged(result(15, 1.2), result(120, 1.0, integer_layers=0)) == "nothing would run in integers"
    assert judged(result(15, 1.2, integer_layers=0), result(120, 1.1, integer_layers=0)) == ""


def test_what_is_asked_for_counts(judged: Any) -> None:
    assert judged(result(21, 1.0), result(23, 0.8), max_slowdown=1.5) == ""
