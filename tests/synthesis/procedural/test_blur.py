"""Gaussian blur of a picture: against a direct sum, its borders, its ends."""

import numpy as np
import pytest

from dfq_deploy.synthesis.procedural.blur import gaussian_blur


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_a_point_becomes_the_product_of_two_bells(sigma: float) -> None:
    point = np.zeros((1, 31, 41), np.float32)
    point[0, 15, 20] = 1
    bells = [np.exp(-(((np.arange(size) - size // 2) / sigma) ** 2) / 2) for size in (31, 41)]
    expected = np.outer(*(bell / bell.sum() for bell in bells))
    np.testing.assert_allclose(gaussian_blur(point, sigma)[0], expected, atol=2e-3)


def test_borders_are_reflected_so_that_an_even_picture_stays_even() -> None:
    even = np.full((3, 9, 5), 0.7, np.float32)
    np.testing.assert_allclose(gaussian_blur(even, 4.0), even, atol=1e-6)
    edge = np.zeros((1, 1, 12), np.float32)
    edge[..., 0] = 1
    mirrored = np.concatenate([edge[..., ::-1], edge], axis=-1)
    np.testing.assert_allclose(gaussian_blur(edge, 1.0), gaussian_blur(mirrored, 1.0)[..., 12:], atol=1e-6)


def test_no_blur_returns_the_picture() -> None:
    picture = np.ones((1, 4, 4), np.float32)
    assert gaussian_blur(picture, 0) is picture
