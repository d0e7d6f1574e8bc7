"""Losses, worked out by hand."""

import math

import pytest
import torch

from dfq_deploy.synthesis.losses.image_priors import class_loss, competition, image_norm, total_variation

PICTURE = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])


def test_total_variation_looks_in_four_directions() -> None:
    # To the right 1 and 4, down 3 and 6, to the lower right 7, to the lower left 2.
    l1, l2 = total_variation(PICTURE)
    assert l1.item() == pytest.approx((1 + 4) / 2 + (3 + 6) / 2 + 7 + 2)
    assert l2.item() == pytest.approx(math.sqrt(1 + 16) + math.sqrt(9 + 36) + 7 + 2)


def test_the_l2_form_is_of_the_whole_batch_and_the_l1_form_a_mean() -> None:
    one, four = total_variation(PICTURE), total_variation(PICTURE.repeat(4, 1, 1, 1))
    assert four[0].item() == pytest.approx(one[0].item())
    assert four[1].item() == pytest.approx(2 * one[1].item())


def test_flat_pictures_have_no_variation() -> None:
    assert [value.item() for value in total_variation(torch.full((2, 3, 4, 5), 7.0))] == [0, 0]


def test_image_norm_is_a_mean_over_the_images() -> None:
    images = torch.zeros(2, 1, 2, 2)
    images[0, 0, 0] = torch.tensor([3.0, 4.0])
    images[1, 0, 1, 1] = -12
    assert image_norm(images).item() == pytest.approx((5 + 12) / 2)


def test_competition_by_hand() -> None:
    # At temperature 3 the scores are one part to three and three parts to one; the middle is even.
    student, teacher = torch.tensor([[0.0, 3 * math.log(3)]]), torch.tensor([[3 * math.log(3), 0.0]])
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert competition(student, teacher).item() == pytest.approx(1 - divergence, abs=1e-6)


def test_competition_is_lost_where_both_agree_and_never_leaves_its_bounds() -> None:
    scores = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert competition(scores, scores).item() == pytest.approx(1, abs=1e-3)
    far = 1e4 * scores
    assert 0 <= competition(far, far.flip(1)).item() <= 1


def scores_of(*probabilities: list[float]) -> torch.Tensor:
    return torch.tensor(probabilities).log() + 5


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("hard", [0.0, 0.5, 2.0])
def test_hard_samples_count_more(hard: float, soft: bool) -> None:
    scores = scores_of([0.9, 0.1], [0.2, 0.8])
    targets = torch.eye(2)[[0, 0]] if soft else torch.tensor([0, 0])
    # The first image reaches its class with 0.9, the second with 0.2.
    wanted = (0.1**hard * -math.log(0.9) + 0.8**hard * -math.log(0.2)) / 2
    assert class_loss(scores, targets, hard).item() == pytest.approx(wanted, rel=1e-5)


def test_a_mixed_target_is_reached_as_far_as_its_classes_are() -> None:
    # p = 0.75 * 0.6 + 0.25 * 0.4.
    wanted = (1 - 0.55) ** 2 * -(0.75 * math.log(0.6) + 0.25 * math.log(0.4))
    assert class_loss(scores_of([0.6, 0.4]), torch.tensor([[0.75, 0.25]]), 2).item() == pytest.approx(wanted, rel=1e-5)


def test_a_sure_image_has_a_slope_without_end_nowhere() -> None:
    scores = torch.tensor([[200.0, 0.0]], requires_grad=True)
    class_loss(scores, torch.tensor([0]), 0.5).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
