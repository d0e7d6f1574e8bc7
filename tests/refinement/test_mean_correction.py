"""Means that stay what they were, against numbers worked out by hand."""

from collections.abc import Mapping

import pytest
import torch

from dfq_deploy.refinement.mean_correction import BatchIndices, channel_shifts, correct_means, parts_of
from dfq_deploy.twin import Hook

MEANS = torch.tensor([[1.0, 10.0], [3.0, 20.0], [100.0, 100.0]])
"""Of three samples; the third is not asked for."""


def test_each_channel_has_the_mean_of_the_samples_that_are_chosen() -> None:
    values = torch.tensor([[[0.0, 2.0], [1.0, 1.0]], [[4.0, 6.0], [3.0, 3.0]]])  # (N, C, places): means 3 and 2
    told: list[torch.Tensor] = []
    hook = correct_means(MEANS, BatchIndices(torch.tensor([0, 1])), None, told.append)
    shifted = hook(values)
    torch.testing.assert_close(told[0], torch.tensor([2.0 - 3.0, 15.0 - 2.0]))
    torch.testing.assert_close(shifted, values + torch.tensor([-1.0, 13.0]).reshape(1, 2, 1))


def test_what_follows_reads_the_shifted_values() -> None:
    batch = BatchIndices(slice(0, 1))
    hook = correct_means(MEANS, batch, torch.round)
    torch.testing.assert_close(hook(torch.tensor([[0.4, 0.2]])), torch.tensor([[1.0, 10.0]]))
    batch.indices = torch.tensor([1])
    torch.testing.assert_close(hook(torch.tensor([[0.4, 0.2]])), torch.tensor([[3.0, 20.0]]))


def test_parts_cover_all_samples() -> None:
    assert parts_of(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert parts_of(2, 0) == [slice(0, 1), slice(1, 2)]


@pytest.mark.parametrize("most", [3, 2, 1])
def test_the_shifts_are_those_of_all_samples_whatever_the_parts(most: int) -> None:
    """Two layers, the second of which doubles what the first one gives after its shift."""
    inputs = torch.tensor([[1.0, 2.0], [3.0, 5.0], [8.0, 4.0]])
    means = {"first": inputs + 1.5, "second": 2 * inputs}

    def run(part: slice, hooks: Mapping[str, Hook]) -> None:
        hooks["second"](2 * hooks["first"](inputs[part]))

    def rounded(values: torch.Tensor) -> torch.Tensor:
        return values.round(decimals=1)

    hooks = {"first": rounded, "second": rounded}
    shifts = channel_shifts(run, means, hooks, parts_of(3, most))
    torch.testing.assert_close(shifts["first"], torch.tensor([1.5, 1.5]))
    torch.testing.assert_close(shifts["second"], torch.tensor([-3.0, -3.0]))
