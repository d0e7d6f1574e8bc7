"""Losses, worked out by hand."""

import math

import pytest
import torch

from dfq_deploy.synthesis.losses import competition, image_norm, total_variation

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
