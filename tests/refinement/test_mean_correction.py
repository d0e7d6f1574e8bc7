"""Means that stay what they were, against numbers worked out by hand."""

import torch

from dfq_deploy.refinement.mean_correction import BatchIndices, correct_means

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
