"""Moments of channels, against formulas and numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from dfq_deploy.synthesis.moments.moments import Moments, add, apply_elementwise, average, concatenate, linear, multiply


def normal(mean: list[float], std: list[float], reach: float = 6.0) -> Moments:
    return Moments.normal(torch.tensor(mean), torch.tensor(std).square(), reach)


def test_a_normal_distribution_ends_where_it_is_told() -> None:
    found = normal([1.0, -2.0], [0.5, 2.0], reach=4)
    assert found.low.tolist() == pytest.approx([-1, -10])
    assert found.high.tolist() == pytest.approx([3, 6])


@pytest.mark.parametrize(("beta", "gamma"), [(0.0, 1.0), (0.7, 0.3), (-1.5, 2.0), (0.4, 0.05)])
def test_relu_gives_the_clipped_normal_distribution(beta: float, gamma: float) -> None:
    # Nagel et al. 2019, appendix C: E = gamma * pdf(-beta / gamma) + beta * (1 - cdf(-beta / gamma)).
    density = math.exp(-((beta / gamma) ** 2) / 2) / math.sqrt(2 * math.pi)
    share = 0.5 * (1 + math.erf(beta / gamma / math.sqrt(2)))
    mean = gamma * density + beta * share
    square = (beta**2 + gamma**2) * share + beta * gamma * density
    found = apply_elementwise(normal([beta], [gamma]), torch.relu)
    assert float(found.mean) == pytest.approx(mean, abs=1e-4)
    assert float(found.var) == pytest.approx(square - mean**2, abs=1e-4)
    assert float(found.low) == pytest.approx(max(0, beta - 6 * gamma))
    assert float(found.high) == pytest.approx(beta + 6 * gamma)


def test_a_function_that_turns_is_followed_to_its_lowest_point() -> None:
    found = apply_elementwise(normal([0.0], [2.0]), torch.nn.functional.silu)
    assert float(found.low) == pytest.approx(-0.2785, abs=1e-3)
    assert float(found.high) == pytest.approx(12, abs=1e-2)


def test_sums_and_products_of_two() -> None:
    first, second = normal([1.0, 2.0], [1.0, 3.0]), normal([0.5], [2.0])
    added = add(first, second, reach=6)
    assert added.mean.tolist() == pytest.approx([1.5, 2.5])
    assert added.var.tolist() == pytest.approx([5, 13])
    assert added.high.tolist() == pytest.approx([1.5 + 6 * 5**0.5, 2.5 + 6 * 13**0.5])
    bounded = add(apply_elementwise(first, torch.relu), apply_elementwise(second, torch.relu), reach=60)
    assert bounded.low.tolist() == [0, 0]
    assert bounded.high.tolist() == pytest.approx([7 + 12.5, 20 + 12.5])
    times = multiply(first, second)
    assert times.mean.tolist() == pytest.approx([0.5, 1])
    # E[x^2 y^2] - E[x]^2 E[y]^2 = (1 + 1) (0.25 + 4) - 0.25 and (4 + 9) (0.25 + 4) - 1.
    assert times.var.tolist() == pytest.approx([8.25, 54.25])
    assert times.low.tolist() == pytest.approx([7 * -11.5, 20 * -11.5])
    assert times.high.tolist() == pytest.approx([7 * 12.5, 20 * 12.5])


def test_a_linear_layer_in_groups() -> None:
    weight = torch.tensor([[[1.0], [2.0]], [[3.0], [-1.0]]])
    found = linear(normal([1, 2, 3, 4], [1, 1, 2, 1]), weight, torch.tensor([0.5, 0.0]), reach=2)
    assert found.mean.tolist() == pytest.approx([1 + 4 + 0.5, 9 - 4])
    assert found.var.tolist() == pytest.approx([1 + 4, 36 + 1])
    assert found.high.tolist() == pytest.approx([5.5 + 2 * 5**0.5, 5 + 2 * 37**0.5])


def test_a_mean_over_positions_narrows() -> None:
    found = average(normal([1.0], [2.0]), 16, reach=6)
    assert (float(found.mean), float(found.var)) == (1, 1)
    assert (float(found.low), float(found.high)) == (-5, 7)
    clipped = average(apply_elementwise(normal([1.0], [2.0]), torch.relu), 1, reach=6)
    assert float(clipped.low) == 0


def test_channels_become_one_where_they_are_mixed() -> None:
    parts = concatenate([normal([0.0, 4.0], [1.0, 1.0]), normal([2.0], [3.0])])
    one = parts.mixture()
    assert float(one.mean) == 2
    assert float(one.var) == pytest.approx(11 / 3 + (4 + 4 + 0) / 3)
    assert (float(one.low), float(one.high)) == (-16, 20)
    drawn = np.random.default_rng(0).normal([0, 4, 2], [1, 1, 3], (20_000, 3))
    assert float(one.var) == pytest.approx(drawn.var(), rel=0.03)
    assert one.broadcast_to(3).mean.tolist() == [2, 2, 2]
    assert parts.repeat(2).mean.tolist() == [0, 0, 4, 4, 2, 2]
