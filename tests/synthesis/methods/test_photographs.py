"""The method ``photographs``: other files than those that judge, bounds, refusal of what is no image."""

import hashlib

import numpy as np
import pytest

from dfq_deploy.errors import ModelError
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.plugins.registry import synthesizer_of
from dfq_deploy.samples.photographs import CALIBRATION, JUDGING, photographs
from dfq_deploy.samples.preprocess import PREPROCESSES


def test_no_photograph_both_calibrates_and_judges() -> None:
    folders = [{hashlib.sha256(file.read_bytes()).digest() for file in f.glob("*.jpg")} for f in (CALIBRATION, JUDGING)]
    assert [len(files) for files in folders] == [12, 6]
    assert not folders[0] & folders[1]


def test_its_pixels_are_those_of_the_calibration_folder() -> None:
    pixels = PREPROCESSES["imagenet"]
    request = SynthesisRequest(14, (3, 24, 32), preprocess=pixels, seed=3)
    images = synthesizer_of("photographs").synthesize((), request).images
    np.testing.assert_array_equal(images, photographs(14, (3, 24, 32), pixels, 3, CALIBRATION))
    assert not np.array_equal(images, photographs(14, (3, 24, 32), pixels, 3, JUDGING))


@pytest.mark.parametrize("shape", [(40,), (4, 32, 32), (3, 4, 4)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"is not an image of 1 or 3 channels.*--synth procedural"):
        synthesizer_of("photographs").synthesize((), SynthesisRequest(2, shape))
