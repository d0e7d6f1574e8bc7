"""Predicted agreement: the formula by hand, and its direction."""

import pytest

from dfq_deploy.evaluation.metrics import Scores
from dfq_deploy.verdict.agreement.prediction import COEFFICIENTS, Coefficients, predict


def _scores(variation: float, confidence: float) -> Scores:
    return Scores(95.0, 0.0, confidence=confidence, variation=variation)


def test_log_odds_by_hand() -> None:
    """With a = 0 and b = c = 1: log(0.2 / 0.8) + 0.8 log(0.5) = -1.386294 - 0.554518."""
    assert Coefficients(0.0, 1.0, 1.0, 1.0).changed(_scores(0.2, 0.5)) == pytest.approx(-1.940812, abs=1e-6)


@pytest.mark.parametrize("kind", list(COEFFICIENTS))
def test_more_distance_and_more_doubt_predict_less(kind: str) -> None:
    def value(variation: float, confidence: float) -> float:
        found = predict({kind: _scores(variation, confidence)})
        assert found is not None
        assert found.low < found.value < found.high
        return found.value

    assert value(0.0, 0.9) > 99.9
    assert value(0.01, 0.9) > value(0.05, 0.9) > value(0.5, 0.9)
    assert value(0.05, 0.9) > value(0.05, 0.5)
    assert value(0.9, 0.99) < 40  # a sure network whose answers all change


def test_photographs_predict_where_there_are_any() -> None:
    both = {"procedural": _scores(0.5, 0.5), "photographs": _scores(0.01, 0.9), "zeroq": _scores(0.1, 0.9)}
    found = predict(both)
    assert found is not None
    assert found.kind == "photographs"
    assert predict({"zeroq": _scores(0.1, 0.9)}) is None
