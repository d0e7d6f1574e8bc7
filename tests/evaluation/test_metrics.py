"""Metrics against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from dfq_deploy.evaluation.metrics import ScoreTally, log_probabilities, signal_to_noise
from dfq_deploy.evaluation.output_distance import OutputTally


def test_signal_to_noise_in_decibels() -> None:
    assert signal_to_noise(100, 1) == pytest.approx(20)
    assert signal_to_noise(1, 10) == pytest.approx(-10)
    assert signal_to_noise(3, 0) == math.inf
    assert signal_to_noise(0, 3) == -math.inf


def test_output_distance_adds_up_over_slices() -> None:
    tally = OutputTally()
    tally.add(np.array([[3.0, 4.0]], np.float32), np.array([[3.0, 3.5]], np.float32))
    tally.add(np.array([[0.0, 5.0]], np.float32), np.array([[0.0, 5.5]], np.float32))
    distance = tally.distance("y")
    # Signal 9 + 16 + 25 = 50, noise 0.25 + 0.25 = 0.5: a hundred times.
    assert distance.snr == pytest.approx(20)
    assert distance.largest == 0.5
    assert distance.to_json() == {"name": "y", "snr_db": pytest.approx(20), "max_abs_difference": 0.5}


def test_an_offset_does_not_count_as_signal() -> None:
    """Kelvin: 57 dB were printed where the noise was half of what the values tell."""
    exact = 293.0 + np.array([[-1.0], [1.0], [-1.0], [1.0]])
    tally = OutputTally()
    for part in (slice(2), slice(2, None)):
        tally.add(exact[part], exact[part] + np.array([[0.1], [-0.1]]), rows=True)
    distance = tally.distance("y")
    assert distance.offset == pytest.approx(293)
    assert distance.snr == pytest.approx(20, abs=1e-4)
    assert distance.signal == pytest.approx(1, abs=1e-6)
    assert distance.to_json()["offset"] == pytest.approx(293)


def test_one_probability_for_each_sample_moves() -> None:
    exact, found = np.array([[1.0], [0.0], [1.0], [0.7]]), np.array([[1.0], [0.0], [1.0], [0.9]])
    tally = OutputTally(1.0)
    tally.add(exact, found, rows=True)
    assert tally.distance("p").moved == pytest.approx(0.05)
    assert tally.distance("p").to_json()["moved"] == pytest.approx(0.05)
    for others, span in ((exact, None), (np.full((4, 1), 0.7), 1.0), (exact.reshape(2, 2), 1.0)):
        tally = OutputTally(span)
        tally.add(others, others + 0.05, rows=True)
        assert tally.distance("p").moved is None


@pytest.mark.parametrize(
    ("values", "span"),
    [
        (np.array([[-1.0], [1.0], [2.0]]), None),  # varies by more than its mean
        (np.array([[0.9], [0.91], [0.92]]), 1.0),  # a probability
        (np.full((4, 1), 7.0), None),  # does not vary at all
        (5.0 + np.linspace(0, 1, 64).reshape(2, 32), None),  # a map
        (np.array([[100], [101]], np.int64), None),
    ],
)
def test_other_outputs_are_taken_as_they_are(values: np.ndarray, span: float | None) -> None:
    tally = OutputTally(span)
    tally.add(values, values + 1, rows=True)
    distance = tally.distance("y")
    assert distance.offset == 0
    assert distance.snr == pytest.approx(signal_to_noise(float(np.square(values).sum()), values.size))


def test_equal_outputs_are_null_in_json() -> None:
    tally = OutputTally()
    tally.add(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
    assert tally.distance("y").to_json()["snr_db"] is None


def test_top1_agreement_and_the_paired_error() -> None:
    eye = np.eye(4, dtype=np.float32)
    tally = ScoreTally()
    # Float says 0 1 2 3, quantized 0 1 2 0, the truth is 0 1 3 3: float gets three, quantized two.
    tally.add(eye[[0, 1]], eye[[0, 1]], np.array([0, 1]))
    tally.add(eye[[2, 3]], eye[[2, 0]], np.array([3, 3]))
    scores = tally.scores()
    assert scores.agreement == 75
    assert (scores.float_top1, scores.quantized_top1, scores.drop) == (75, 50, 25)
    assert (scores.lost, scores.won) == (1, 0)
    # The differences 0 0 0 -1 have the standard deviation sqrt(3) / 4.
    assert scores.drop_error == pytest.approx(100 * math.sqrt(3) / 4 / 2)


def test_without_labels_there_is_no_accuracy() -> None:
    tally = ScoreTally()
    tally.add(np.eye(3), np.eye(3), None)
    plain = tally.scores().to_json()
    assert plain["float_top1"] is plain["quantized_top1"] is plain["drop"] is None
    assert plain["agreement"] == 100


def test_divergence_is_that_of_torch() -> None:
    rng = np.random.default_rng(0)
    reference, found = rng.normal(0, 3, (2, 5, 7)).astype(np.float32)
    tally = ScoreTally()
    tally.add(reference, found, None)
    expected = torch.nn.functional.kl_div(
        torch.from_numpy(found).log_softmax(1),
        torch.from_numpy(reference).log_softmax(1),
        log_target=True,
        reduction="none",
    )
    assert tally.scores().divergence == pytest.approx(float(expected.sum(1).mean()), rel=1e-5)


def test_confidence_and_total_variation_by_hand() -> None:
    tally = ScoreTally()
    tally.add(np.array([[0.9, 0.1, 0.0]]), np.array([[0.6, 0.3, 0.1]]), None)  # 0.3 + 0.2 + 0.1, halved
    tally.add(np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.5, 0.25]]), np.array([1]))  # 0.25 + 0.25, halved
    scores = tally.scores()
    assert scores.confidence == pytest.approx(0.7, abs=1e-5)
    assert scores.variation == pytest.approx(0.275, abs=1e-5)


def test_probabilities_are_not_put_through_a_softmax_again() -> None:
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0]])
    np.testing.assert_allclose(np.exp(log_probabilities(probabilities)), probabilities, atol=2e-6)


def test_large_scores_do_not_overflow() -> None:
    np.testing.assert_allclose(np.exp(log_probabilities(np.array([[1000.0, 1000.0]]))), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("dtype", "integers"),
    [("int64", True), ("int32", True), ("bool", True), ("uint8", False), ("int8", False), ("float32", False)],
)
def test_places_and_classes_are_told_from_images_of_bytes(dtype: str, integers: bool) -> None:
    tally = OutputTally()
    tally.add(np.ones((2, 3), dtype), np.ones((2, 3), dtype))
    assert tally.distance("y").integers is integers
