"""Photographs under several preprocesses: the same pixels, and only for networks of color."""

from pathlib import Path

import numpy as np
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.verdict.sanity.photograph_answers import GIVEN, information_on_photographs, photographs_under
from tests.conftest import ModelOf

UNIT, RAW = PREPROCESSES["zero-one"], PREPROCESSES["raw"]

POOLED = "p = GlobalAveragePool(x) f = Flatten<axis=1>(p) s = MatMul(f, w) y = Softmax(s)"


def test_they_are_the_same_pixels(digits_folded: Path) -> None:
    drawn = photographs_under(load(digits_folded), {"unit": UNIT, "raw": RAW}, 6)
    assert drawn["unit"].images.shape == (6, 1, 16, 16)
    np.testing.assert_allclose(drawn["raw"].images, 255 * drawn["unit"].images, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("scale", "least", "most"), [(1.0, 0.0, 0.1), (1000.0, 0.3, 1.1)])
def test_more_is_told_where_the_answers_are_sure_and_various(
    model_of: ModelOf, scale: float, least: float, most: float
) -> None:
    """Classes that are told apart by the color of a picture: small weights tell none under 0 to 1."""
    weights = {"w": scale * np.array([[1, 0, -1], [-1, 1, 0], [0, -1, 1]], np.float32)}
    model = load(model_of("float[n,3,16,16] x", "float[n,3] y", POOLED, weights))
    found = information_on_photographs(model, UNIT, {"raw": RAW})
    assert found is not None
    assert least <= found[GIVEN] <= most
    assert max(found.values()) > 0.3
    of_raw = information_on_photographs(model, RAW, {})
    assert of_raw is not None
    assert found["raw"] == pytest.approx(of_raw[GIVEN])


def test_grey_networks_and_those_without_classes_tell_nothing(digits_folded: Path, model_of: ModelOf) -> None:
    assert information_on_photographs(load(digits_folded), UNIT, {"raw": RAW}) is None
    model = load(model_of("float[n,3,16,16] x", "float[n,3,16,16] y", "y = Relu(x)", {}))
    assert information_on_photographs(model, UNIT, {"raw": RAW}) is None
