"""Boxes of pixels and their share of the label, counted by hand."""

import pytest
import torch

from dfq_deploy.synthesis.inversion.mixing import mix, random_box


@pytest.mark.parametrize("seed", range(8))
def test_labels_are_mixed_by_the_area_of_the_box(seed: int) -> None:
    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 2, 5, 7)
    mixed, labels = mix(images, torch.eye(4), torch.Generator().manual_seed(seed))
    assert labels is not None
    for index in range(4):
        # Each image is flat, so that its pixels tell whose they are, and their counts the label.
        counts = torch.tensor([(mixed[index, 0] == other).sum() for other in range(4)])
        torch.testing.assert_close(labels[index], counts / 35)
        assert counts.sum() == 35
        assert torch.equal(mixed[index, 0], mixed[index, 1])
        foreign = (mixed[index, 0] != index).nonzero()
        if len(foreign):
            sides = foreign.amax(0) - foreign.amin(0) + 1
            assert sides.prod() == len(foreign)  # a box


def test_both_images_get_gradients() -> None:
    images = torch.zeros(2, 1, 6, 6, requires_grad=True)
    for seed in range(20):
        mixed, _ = mix(images, None, torch.Generator().manual_seed(seed))
        mixed[0].sum().backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    # Every pixel of the first mixed image is one of either image.
    assert images.grad.sum() == 20 * 36
    torch.testing.assert_close(images.grad.sum(0), torch.full((1, 6, 6), 20.0))
    assert images.grad[1].sum() > 0


def test_boxes_cover_from_nothing_to_much() -> None:
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(400):
        rows, columns = random_box(32, 16, generator)
        assert 0 <= rows.start <= rows.stop <= 32
        assert 0 <= columns.start <= columns.stop <= 16
        areas.append((rows.stop - rows.start) * (columns.stop - columns.start) / 512)
    assert min(areas) < 0.02
    assert max(areas) > 0.7
    # A box of side s around a random centre keeps s (1 - s / 4) of each axis: the mean over s^2 ~ U[0, 1] is
    # the integral of a (1 - sqrt(a) / 4)^2, 1/2 - 1/5 + 1/48.
    assert sum(areas) / 400 == pytest.approx(0.5 - 0.2 + 1 / 48, abs=0.03)
