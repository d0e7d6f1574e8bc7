"""Large and small images, and how many samples suit them."""

import pytest

from dfq_deploy.plugins import options
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.samples.augmentation import Augmentation
from dfq_deploy.samples.sizes import default_count, is_large

SMALL = [(3, 32, 32), (1, 64, 64), (64, 64, 3), (3, 32, 128), (128,), (512, 7)]
LARGE = [(3, 65, 64), (3, 224, 224), (224, 224, 3), (1, 48, 320)]


@pytest.mark.parametrize("shape", [*SMALL, *LARGE])
def test_all_that_depends_on_the_size_agrees(shape: tuple[int, ...]) -> None:
    large = shape in LARGE
    assert is_large(shape) == large
    assert options.is_large(SynthesisRequest(1, shape)) == large
    assert default_count(shape) == (64 if large else 256)
    assert default_count(shape, training=True) == (256 if large else 1024)
    assert Augmentation.suited_to(shape).shift == (16 if large else 4)
    assert Recipe.suited_to(shape, "cpu").batch == (32 if large else 64)
