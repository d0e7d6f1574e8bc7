"""The figures of tasks, against values worked out by hand."""

import numpy as np
import pytest

from dfq_deploy.evaluation.task_errors import JUDGED, TaskErrors, TaskTally, classes_of
from dfq_deploy.graph.task import TASKS


def found(task: str, *slices: tuple[list[object], list[object]], name: str = "y") -> TaskErrors:
    tally = TaskTally.of(task)
    assert tally is not None
    for wanted, given in slices:
        tally.add(name, np.asarray(wanted, np.float32), np.asarray(given, np.float32))
    errors = tally.errors()
    assert errors is not None
    return errors


def test_classes_and_boxes_have_figures_of_their_own() -> None:
    assert [task for task in TASKS if TaskTally.of(task) is None] == ["classify", "detect"]
    assert set(JUDGED) == set(TASKS) - {"classify", "detect"}
    assert TaskTally.of(None) is None


def test_numbers_by_the_spread_of_float_s_own() -> None:
    errors = found("regress", ([[0, 2]], [[0.1, 2.1]]), ([[4, 6]], [[4.1, 5.9]]))
    assert errors.figure == pytest.approx(1 - 0.1 / np.std([0, 2, 4, 6]))
    assert (errors.task, errors.output) == ("regress", "y")
    assert found("regress", ([[3, 3]], [[3, 3]])).figure == 1
    assert found("regress", ([[3, 3]], [[3, 4]])).figure == -np.inf


def test_embeddings_by_their_direction() -> None:
    errors = found("embed", ([[1, 0], [0, 2]], [[3, 0], [1, 1]]), ([[0, 0]], [[0, 0]]))
    assert errors.figure == pytest.approx((1 + np.sqrt(0.5) + 1) / 3)


def test_regions_by_their_overlap_class_by_class() -> None:
    wanted = np.zeros((1, 3, 10, 100), np.float32)
    wanted[:, 0] = 1
    wanted[:, 1, :, :50] = 2
    wanted[0, 2, 0, :5] = 9  # 5 of 1000 pixels: too few to count
    given = wanted.copy()
    given[:, 1, :, 40:50] = 0  # a fifth of the second class goes to the first
    errors = found("segment", (wanted.tolist(), given.tolist()))
    assert errors.figure == pytest.approx(np.mean([500 / 600, 395 / 495]))


@pytest.mark.parametrize(
    ("output", "classes"),
    [
        (np.array([[[[1.0, 0.0]], [[0.0, 1.0]]]]), [[[0, 1]]]),
        (np.array([[[[0.4, 0.6]]]]), [[[[0, 1]]]]),
        (np.array([[[[-1.0, 0.4]]]]), [[[[0, 1]]]]),
        (np.array([[[7, 8]]]), [[[7, 8]]]),
        (np.tile([0.0, 2.0, 1.0], (1, 8, 8, 1)), np.ones((1, 8, 8)).tolist()),
    ],
    ids=["channels", "probability", "logit", "labels", "channels last"],
)
def test_the_class_of_a_pixel(output: np.ndarray, classes: list[object]) -> None:
    assert classes_of(output).tolist() == classes


def test_the_worst_output_counts() -> None:
    tally = TaskTally.of("embed")
    assert tally is not None
    assert tally.errors() is None
    for name, second in (("good", [[1.0, 0.0]]), ("poor", [[1.0, 1.0]])):
        tally.add(name, np.array([[1.0, 0.0]]), np.array(second))
    errors = tally.errors()
    assert errors is not None
    assert (errors.output, errors.to_json()["name"]) == ("poor", "embed")
