"""Rounding that makes up for earlier errors: on the grid, nearest where inputs are unrelated, better where they are."""

import torch

from dfq_deploy.refinement.closed_form.rounding import BLOCK, CompensatedRounding

LIMITS = (-8, 7)


def _nearest(weights: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    return (weights / step[..., None]).round().clamp(*LIMITS) * step[..., None]


def test_unrelated_inputs_are_rounded_to_the_nearest() -> None:
    weights = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    step, zero = torch.full((2, 3), 0.25).double(), torch.zeros(2, 3)
    products = torch.diag_embed(torch.rand(2, 5, generator=torch.Generator().manual_seed(1)) + 0.5)
    rounding = CompensatedRounding(weights, products, LIMITS)
    torch.testing.assert_close(rounding.rounded(step, zero), _nearest(weights, step))


def test_related_inputs_make_up_for_errors_within_and_across_blocks() -> None:
    """Inputs from a few hidden causes: the error of the outputs falls, though that of the weights rises."""
    generator = torch.Generator().manual_seed(0)
    inputs = 2 * BLOCK + 10
    mixing = torch.randn(8, inputs, generator=generator).double()
    products = mixing.T @ mixing + 0.05 * torch.eye(inputs).double()
    weights = torch.randn(1, 6, inputs, generator=generator).double()
    step, zero = torch.full((1, 6), 0.4).double(), torch.zeros(1, 6)
    rounding = CompensatedRounding(weights, products[None], LIMITS)
    found, nearest = rounding.rounded(step, zero), _nearest(weights, step)
    codes = found / step[..., None]
    torch.testing.assert_close(codes, codes.round())
    assert (codes.min() >= LIMITS[0]) & (codes.max() <= LIMITS[1])
    assert (rounding.error(found) < 0.2 * rounding.error(nearest)).all()
    assert (found - weights).square().sum() > (nearest - weights).square().sum()


def test_zero_points_count() -> None:
    weights = torch.linspace(0, 1.5, 16).reshape(1, 1, 16).double()
    rounding = CompensatedRounding(weights, torch.eye(16)[None], (0, 15))
    codes = rounding.rounded(torch.tensor([[0.1]]), torch.tensor([[3.0]])) / 0.1 + 3
    torch.testing.assert_close(
        codes.flatten(), torch.linspace(3, 18, 16).double().clamp(max=15).round(), atol=1e-5, rtol=0
    )
