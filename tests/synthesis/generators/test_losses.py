"""The losses of generators, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from dfq_deploy.synthesis.generators.losses import (
    batch_entropy,
    gaussian_divergence,
    inception_loss,
    instance_entropy,
    output_divergence,
)
from dfq_deploy.synthesis.generators.training import GeneratorStep
from dfq_deploy.synthesis.losses.batch_norm_statistics import LayerStatistics, mean_squares
from dfq_deploy.synthesis.methods.adversarial import AdversarialLoss
from dfq_deploy.synthesis.methods.dfqf import DfqfLoss
from dfq_deploy.synthesis.methods.gdfq import ClassLoss

LN2 = math.log(2)
HALVES = torch.zeros(3, 2)
"""Logits of even chances."""
SURE = torch.tensor([[200.0, 0.0], [0.0, 200.0]])
"""One sample surely of either class."""
QUARTER = torch.tensor([[0.0, math.log(3)]])
"""Probabilities 1/4 and 3/4."""


def layer(mean: list[float], var: list[float], known_mean: list[float], known_var: list[float]) -> LayerStatistics:
    return LayerStatistics("bn", *(torch.tensor(values) for values in (known_mean, known_var, mean, var)))


@pytest.fixture
def layers() -> list[LayerStatistics]:
    return [layer([1.0, 2.0], [1.0, 4.0], [0.0, 0.0], [1.0, 1.0]), layer([3.0], [2.0], [1.0], [2.0])]


def seen(scores: Tensor, layers: list[LayerStatistics], labels: Tensor | None = None) -> GeneratorStep:
    return GeneratorStep(torch.zeros(len(scores), 1, 2, 2), labels, scores, layers)


def test_mean_squares_is_a_mean_over_channels_and_then_layers(layers: list[LayerStatistics]) -> None:
    # First layer: means (1 + 4) / 2, variances (0 + 9) / 2. Second: 4 and 0.
    assert mean_squares(layers).item() == pytest.approx((2.5 + 4.5 + 4) / 2)


def test_gaussian_divergence_is_that_of_the_batch_from_training(layers: list[LayerStatistics]) -> None:
    # (shift^2 + var) / known / 2 - ln(var / known) / 2 - 1/2 in each channel.
    first = [1 / 2 + 1 / 2 - 0 - 1 / 2, (4 + 4) / 2 - math.log(4) / 2 - 1 / 2]
    second = (4 + 2) / 4 - 0 - 1 / 2
    assert gaussian_divergence(layers).item() == pytest.approx((sum(first) / 2 + second) / 2, rel=1e-4)


def test_gaussian_divergence_agrees_with_torch() -> None:
    ours = gaussian_divergence([layer([0.3], [0.5], [-1.0], [2.0])])
    batch, training = (torch.distributions.Normal(m, v**0.5) for m, v in ((0.3, 0.5), (-1.0, 2.0)))
    assert ours.item() == pytest.approx(torch.distributions.kl_divergence(batch, training).item(), rel=1e-4)


def test_gaussian_divergence_stays_finite_on_a_channel_that_was_constant() -> None:
    assert math.isfinite(gaussian_divergence([layer([0.0], [0.0], [0.0], [0.0])]).item())


def test_entropies() -> None:
    assert instance_entropy(HALVES).item() == pytest.approx(LN2)
    assert batch_entropy(HALVES).item() == pytest.approx(LN2)
    assert instance_entropy(SURE).item() == pytest.approx(0)
    assert batch_entropy(SURE).item() == pytest.approx(LN2)
    assert batch_entropy(SURE[:1]).item() == pytest.approx(0)
    by_hand = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert instance_entropy(QUARTER).item() == pytest.approx(by_hand)
    assert batch_entropy(QUARTER).item() == pytest.approx(by_hand)


def test_inception_loss_is_least_where_samples_are_sure_and_classes_many() -> None:
    assert inception_loss(SURE).item() == pytest.approx(-LN2)
    assert inception_loss(HALVES).item() == pytest.approx(0)
    assert inception_loss(SURE[:1]).item() == pytest.approx(0)


def test_output_divergence_is_from_the_teacher_to_the_student() -> None:
    even = torch.zeros(1, 2)
    assert output_divergence(QUARTER, even).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert output_divergence(even, QUARTER).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert output_divergence(QUARTER, QUARTER + 5).item() == pytest.approx(0, abs=1e-6)


def test_the_class_loss_adds_a_tenth_of_the_statistics(layers: list[LayerStatistics]) -> None:
    labels = torch.tensor([[0.5, 0.5]])
    loss, terms = ClassLoss(0.1)(seen(QUARTER, layers, labels), ())
    by_hand = -(0.5 * math.log(0.25) + 0.5 * math.log(0.75))
    assert terms["class"].item() == pytest.approx(by_hand)
    assert loss.item() == pytest.approx(by_hand + 0.1 * 5.5)


def test_the_adversarial_loss_falls_with_the_divergence_from_all_students(layers: list[LayerStatistics]) -> None:
    apart = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    statistics = gaussian_divergence(layers).item()
    warm, _ = AdversarialLoss(2.0, 3.0)(seen(QUARTER, layers), ())
    assert warm.item() == pytest.approx(2 * (statistics + entropy - entropy))
    loss, terms = AdversarialLoss(2.0, 3.0)(seen(QUARTER, layers), [torch.zeros(1, 2), QUARTER])
    assert terms["divergence"].item() == pytest.approx(apart / 2)
    assert loss.item() == pytest.approx(2 * statistics - 3 * apart / 2)


def test_the_dfqf_loss_has_three_terms(layers: list[LayerStatistics]) -> None:
    loss, _ = DfqfLoss(0.5, 2.0)(seen(SURE, layers), [torch.zeros(2, 2)])
    assert loss.item() == pytest.approx(-LN2 + 0.5 * 5.5 - 2 * LN2)
