"""Few pictures become many."""

import torch

from dfq_deploy.refinement.more_samples import with_more_samples


def test_few_pictures_become_many_and_stay_within_their_range() -> None:
    few = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 4 - 3
    many = with_more_samples(few, 20, torch.Generator().manual_seed(1))
    assert many.shape == (20, 3, 16, 16)
    torch.testing.assert_close(many[:6], few)
    assert many.min() >= few.min()
    assert many.max() <= few.max() + 1e-5
    assert len({picture.numpy().tobytes() for picture in many}) == 20
    torch.testing.assert_close(with_more_samples(few, 4, torch.Generator()), few)
    rows = torch.rand(6, 10)  # no pictures: there is no more of them
    torch.testing.assert_close(with_more_samples(rows, 20, torch.Generator()), rows)
