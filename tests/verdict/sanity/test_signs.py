"""Two signs together: what speaks for a preprocess excuses small biases, what speaks against it twice condemns it."""

from dataclasses import replace

import pytest

from dfq_deploy.verdict.finding import Finding, Level
from dfq_deploy.verdict.sanity.preprocess_answers import OTHER_SCALE
from dfq_deploy.verdict.sanity.signs import agreed, weighed

FIT = Finding("preprocess-fit", "CHECK", "the answers say so", "give another")
SCALE = Finding("samples-scale", "CHECK", "too small", "", {"response_to_bias": 0.1, "deviation": 0.02})
DROWNED = replace(SCALE, message="too large", figures={"response_to_bias": 48.5, "deviation": 1.08})
OTHER = Finding("labels", "BAD", "wrong")


def _levels(*findings: Finding, classifies: bool = True) -> list[str]:
    return [entry.level for entry in weighed(findings, classifies=classifies)]


def test_two_signs_against_a_preprocess_condemn_it() -> None:
    assert _levels(FIT, SCALE) == ["BAD", "CHECK"]
    assert _levels(FIT, replace(SCALE, level="BAD"), OTHER) == ["BAD", "BAD", "BAD"]
    assert _levels(FIT, replace(SCALE, level="OK")) == ["CHECK", "OK"]
    assert _levels(FIT) == ["CHECK"]
    assert _levels(SCALE) == ["CHECK"]


def test_small_biases_are_no_fault_where_the_offsets_are_right() -> None:
    right = replace(FIT, level="OK")
    assert _levels(right, DROWNED) == ["OK", "OK"]
    assert _levels(DROWNED) == ["CHECK"]
    assert _levels(right, SCALE) == ["OK", "CHECK"]
    raw = replace(DROWNED, level="BAD", figures={"response_to_bias": 4800.0, "deviation": 68.0})
    assert _levels(right, raw) == ["OK", "BAD"]


@pytest.mark.parametrize(("classifies", "level"), [(True, "BAD"), (False, "CHECK")])
def test_without_class_scores_small_biases_alone_condemn_nothing(classifies: bool, level: str) -> None:
    raw = replace(DROWNED, level="BAD", figures={"response_to_bias": 4800.0, "deviation": 68.0})
    assert _levels(raw, classifies=classifies) == [level]


def test_answers_that_ask_for_another_scale_may_be_coordinates() -> None:
    answers = replace(FIT, level="BAD", figures={OTHER_SCALE: 1.0})
    (found,) = weighed([answers], classifies=True)
    assert (found.level, found.options) == ("CHECK", "--task regress")
    assert found.remedy.endswith("say --task regress, segment or embed")
    assert _levels(replace(answers, figures={OTHER_SCALE: 0.0})) == ["BAD"]
    assert _levels(answers, SCALE) == ["BAD", "CHECK"]


@pytest.mark.parametrize(
    ("offset", "answers", "expected"),
    [
        (0.9, "CHECK", "BAD"),
        (0.2, "CHECK", "CHECK"),
        (0.9, "OK", "OK"),
        (0.2, "BAD", "BAD"),
        (None, "CHECK", "CHECK"),
        (0.2, None, "OK"),
    ],
)
def test_doubtful_answers_and_offsets_that_are_times_too_large(
    offset: float | None, answers: Level | None, expected: str
) -> None:
    figures = {"offset": offset or 0.0, "offset_best": 0.15}
    one = None if offset is None else Finding("preprocess-fit", "OK", "offsets", figures=figures)
    other = None if answers is None else Finding("preprocess-fit", answers, "answers")
    (found,) = agreed(one, other)
    assert (found.level, found.message) == (expected, "offsets" if other is None else "answers")


def test_nothing_known_is_no_finding() -> None:
    assert [*agreed(None, None)] == []
