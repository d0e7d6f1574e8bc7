"""Predicted agreement: the formula by hand, its direction, and what it is computed from."""

from dataclasses import replace

import numpy as np
import pytest

from dfq_deploy.evaluation.metrics import Scores, ScoreTally
from dfq_deploy.verdict.agreement.prediction import (
    COEFFICIENTS,
    Coefficients,
    Features,
    features_of,
    predict,
    sampling_error,
)


def _features(part: float, confidence: float = 0.8) -> Features:
    return Features(part, part, part, confidence, part, moved=part)


def _scores(classes: list[int], found: list[int]) -> Scores:
    tally = ScoreTally()
    tally.add(5 * np.eye(3)[classes], 5 * np.eye(3)[found], None)
    return tally.scores()


def test_log_odds_by_hand() -> None:
    """All three estimates of log(d / (1 - d)), whose parts are averaged.

    1 + 2 log(0.2 / 0.8) = -1.772589, a part of 0.145221; 1 + 2 log(0.5 / 0.5) + 4 (1 - 0.5) log(1 - 0.75) = -1.772589,
    the same part; with 2 more, the second is a part of 0.556609. -1 + log(0.5 / 0.5) = -1, a part of 0.268941. The mean
    of both and half of the third is 0.169965 or 0.334520, their log-odds -1.585876 and -0.687811.
    """
    features = Features(0.2, 0.5, 0.5, 0.75, 0.1, moved=0.5)
    assert Coefficients((1, 2), (1, 2, 4), (-1, 1), 1.0).log_odds(features) == pytest.approx(-1.585876, abs=1e-6)
    assert Coefficients((1, 2), (3, 2, 4), (-1, 1), 1.0).log_odds(features) == pytest.approx(-0.687811, abs=1e-6)


def test_few_inputs_leave_a_prediction_uncertain() -> None:
    """With 20 % of 100 answers changed their log-odds have a standard error of 1 / sqrt(100 0.2 0.8) = 0.25."""
    found = predict({"photographs": _features(0.2)})
    assert found is not None
    part, slope = 1 - found.value / 100, COEFFICIENTS["photographs"].counted[1]
    assert sampling_error(found, 0.2, 100) == pytest.approx(100 * 0.25 * slope * part * (1 - part))
    assert sampling_error(found, 0.2, 400) == pytest.approx(sampling_error(found, 0.2, 100) / 2)
    assert 0 < sampling_error(found, 0.0, 100) < np.inf
    assert sampling_error(replace(found, kind="data"), 0.2, 100) == 0


@pytest.mark.parametrize("kind", list(COEFFICIENTS))
def test_more_changes_and_more_doubt_predict_less(kind: str) -> None:
    def value(features: Features) -> float:
        found = predict({kind: features})
        assert found is not None
        assert found.low < found.value < found.high
        return found.value

    assert value(_features(0.0)) > 99.5
    assert value(_features(0.01)) > value(_features(0.05)) > value(_features(0.5))
    assert value(_features(0.05, 0.9)) > value(_features(0.05, 0.4))
    assert value(_features(0.95)) < 20


def test_photographs_predict_where_there_are_any() -> None:
    both = {"procedural": _features(0.5), "photographs": _features(0.01)}
    found = predict(both)
    assert found is not None
    assert found.kind == "photographs"
    assert predict({}) is None


def test_a_model_that_always_answers_the_same_is_found_out() -> None:
    """It agrees on 9 of 10 photographs of one class; procedural inputs have other classes."""
    stuck = _scores([0] * 18 + [1, 2], [0] * 20)
    assert stuck.agreement == 90
    features = features_of({"photographs": stuck, "procedural": _scores([1, 2] * 10, [0] * 20)})
    assert features["photographs"].counted == pytest.approx(0.4)
    assert features["photographs"].by_class > 0.6
    assert features["photographs"].changed == pytest.approx(2 / 3)
    assert features["photographs"].lost == pytest.approx(2 / 3)
    predicted = predict(features)
    assert predicted is not None
    assert predicted.value < 80


def test_no_more_is_predicted_than_lost_classes_leave() -> None:
    found = predict({"photographs": replace(_features(0.0), lost=0.1)})
    assert found is not None
    assert (found.value, found.high, found.lost) == (90, 90, 0.1)


def test_kinds_that_do_not_predict_have_no_features() -> None:
    scores = _scores([0, 1, 2], [0, 1, 2])
    assert set(features_of({"zeroq": scores, "procedural": scores})) == {"procedural"}
    assert features_of({"procedural": replace(scores, rows=None)}) == {}
