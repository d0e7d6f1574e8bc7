"""Augmentation, on pictures whose every pixel tells where it comes from."""

import pytest
import torch
from torch import Tensor

from dfq_deploy.errors import OptionError
from dfq_deploy.samples.augmentation import Augmentation

PLAIN = {"flip": False, "shift": 0, "soften": 0.0, "blend": 0.0, "cut": 0.0}


def pictures(count: int = 64, size: int = 6) -> Tensor:
    """Picture n has the value 100 n + 10 row + column."""
    number, row, column = torch.meshgrid(
        torch.arange(float(count)), torch.arange(float(size)), torch.arange(float(size)), indexing="ij"
    )
    return (100 * number + 10 * row + column).unsqueeze(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_asked_nothing_done() -> None:
    images, labels = Augmentation(**PLAIN)(pictures(), None, seeded())  # type: ignore[arg-type]
    assert torch.equal(images, pictures())
    assert labels is None


def test_flips_mirror_half_of_the_pictures() -> None:
    images, _ = Augmentation(**{**PLAIN, "flip": True})(pictures(), None, seeded())  # type: ignore[arg-type]
    mirrored = [torch.equal(image, whole.flip(-1)) for image, whole in zip(images, pictures(), strict=True)]
    kept = [torch.equal(image, whole) for image, whole in zip(images, pictures(), strict=True)]
    assert [a != b for a, b in zip(mirrored, kept, strict=True)] == [True] * 64
    assert 16 < sum(mirrored) < 48


def test_shifts_move_the_inside_and_mirror_the_edge() -> None:
    images, _ = Augmentation(**{**PLAIN, "shift": 2})(pictures(), None, seeded())  # type: ignore[arg-type]
    moved = set()
    for image, whole in zip(images, pictures(), strict=True):
        down, right = divmod(int(image[0, 2, 2] - whole[0, 2, 2]) + 22, 10)
        down, right = down - 2, right - 2
        moved.add((down, right))
        rows = [abs(row + down) if row + down < 6 else 10 - row - down for row in range(6)]
        columns = [abs(column + right) if column + right < 6 else 10 - column - right for column in range(6)]
        assert torch.equal(image[0], whole[0][rows][:, columns])
    assert len(moved) > 15  # of 25


def test_softening_takes_detail_and_nothing_else() -> None:
    # At half the resolution a checkerboard is gray: what is left of it is 1 less the weight, and the mean stays.
    board = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4).expand(64, 2, 8, 8)
    images, _ = Augmentation(**{**PLAIN, "soften": 0.5})(board + 3, None, seeded())  # type: ignore[arg-type]
    left = (images[:, 0, 0, 0] - 3).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(images, 3 + left * board)
    assert 16 < int((left == 1).sum()) < 48
    assert len(set(left.flatten().tolist())) > 16
    assert left.min() >= 0


def test_cuts_and_blends_mix_labels_as_they_mix_pictures() -> None:
    # Constant pictures: the mean of a mixed one says how much of each is in it.
    values = torch.arange(64.0)
    whole = values.reshape(-1, 1, 1, 1).expand(-1, 2, 8, 8)
    images, labels = Augmentation(flip=False, shift=0, soften=0.0, blend=0.5, cut=0.5)(whole, torch.eye(64), seeded())
    assert labels is not None
    torch.testing.assert_close(labels.sum(1), torch.ones(64))
    torch.testing.assert_close(labels @ values, images.mean((1, 2, 3)), rtol=1e-4, atol=1e-4)
    cut = [len(image.unique()) == 2 for image in images]
    assert 16 < sum(cut) < 48
    assert (labels > 0).sum() > 64


def test_the_same_seed_gives_the_same_batch() -> None:
    first, second, other = (Augmentation()(pictures(), None, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_what_is_no_picture_is_left_alone() -> None:
    values = torch.randn(4, 7, generator=seeded())
    assert Augmentation()(values, None, seeded())[0] is values


@pytest.mark.parametrize("wrong", [{"shift": -1}, {"blend": 0.7, "cut": 0.4}, {"cut": -0.1}, {"soften": 1.5}])
def test_values_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="together at most 1"):
        Augmentation(**wrong)  # type: ignore[arg-type]
