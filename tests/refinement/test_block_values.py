"""The features between two blocks, and what they are mixed by."""

import pytest
import torch

from dfq_deploy.refinement.block_values import computed, mean_square, random_mask


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_mask_has_the_share_of_ones_the_layout_and_the_seed_of_its_generator(share: float) -> None:
    like = torch.zeros(5, 3, 33, 31).contiguous(memory_format=torch.channels_last)

    mask, again = (random_mask(like, share, torch.Generator().manual_seed(3)) for _ in range(2))

    assert mask.stride() == like.stride()
    assert bool(((mask == 0) | (mask == 1)).all())
    assert float(mask.mean()) == pytest.approx(share, abs=0.02)
    assert torch.equal(mask, again)
    assert not torch.equal(mask, random_mask(like, share, torch.Generator().manual_seed(4))) or share == 1.0


def test_elements_of_a_mask_are_independent_of_their_neighbours() -> None:
    mask = random_mask(torch.zeros(1, 1, 64, 64), 0.5, torch.Generator().manual_seed(0)).flatten()

    for distance in (1, 2, 7, 8, 64):
        same = (mask[distance:] == mask[:-distance]).float().mean()
        assert float(same) == pytest.approx(0.5, abs=0.04)


def test_rows_are_computed_in_slices_and_compared_in_slices() -> None:
    values = torch.arange(70.0).reshape(70, 1)

    doubled = computed(values, 16, lambda rows: 2 * rows)

    assert torch.equal(doubled, 2 * values)
    assert mean_square(doubled, values) == pytest.approx(float(values.square().mean()))
