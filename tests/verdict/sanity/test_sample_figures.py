"""The levels of quality figures."""

import pytest

from dfq_deploy.verdict.sanity.sample_figures import figure_findings

GOOD = {
    "statistics_distance": 0.2,
    "classes_seen": 10.0,
    "class_coverage": 1.0,
    "class_share_smallest": 0.05,
    "class_share_largest": 0.2,
    "confidence": 0.9,
    "diversity": 0.9,
}


def levels(**changed: float) -> dict[str, str]:
    found = figure_findings({**GOOD, **changed}, 64)
    return {finding.code: finding.level for finding in found if finding.level != "OK"}


def test_good_figures_are_ok() -> None:
    assert levels() == {}
    assert len(figure_findings(GOOD, 64)) == 4


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"statistics_distance": 1.1}, {"samples-statistics": "CHECK"}),
        ({"statistics_distance": 62.0}, {"samples-statistics": "BAD"}),
        ({"diversity": 0.2}, {"samples-diversity": "CHECK"}),
        ({"diversity": 0.02}, {"samples-diversity": "BAD"}),
        ({"class_share_largest": 1.0, "diversity": 0.4}, {"samples-classes": "CHECK"}),
        ({"confidence": 0.12, "diversity": 0.4}, {"samples-confidence": "CHECK"}),
    ],
)
def test_each_figure_has_its_level(changed: dict[str, float], expected: dict[str, str]) -> None:
    assert levels(**changed) == expected


def test_outputs_that_are_no_class_scores_are_not_blamed() -> None:
    # 136 coordinates: the same one is always the largest, and none is sure.
    coordinates = {"classes_seen": 1.0, "class_coverage": 1 / 136, "class_share_largest": 1.0, "confidence": 0.008}
    assert levels(**coordinates) == {}


def test_no_figures_no_findings() -> None:
    assert figure_findings({}, 64) == ()


def test_a_pair_of_classes_may_be_one_sided() -> None:
    assert levels(classes_seen=1.0, class_coverage=0.5, class_share_largest=1.0, diversity=0.4) == {}


@pytest.mark.parametrize(("diversity", "level"), [(0.2, "OK"), (0.12, "CHECK"), (0.04, "BAD")])
def test_without_class_scores_samples_may_be_more_alike(diversity: float, level: str) -> None:
    assert [finding.level for finding in figure_findings({"diversity": diversity}, 64)] == [level]
