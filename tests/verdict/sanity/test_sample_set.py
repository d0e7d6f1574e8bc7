"""A sample set by itself: number, repeats, contrast, range."""

import numpy as np
import pytest

from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.sanity.sample_set import constant_finding, count_finding, range_finding

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)

UNIT, IMAGENET = PREPROCESSES["zero-one"], PREPROCESSES["imagenet"]


@pytest.fixture
def photographs() -> Samples:
    return Samples(UNIT.apply(PIXELS))


@pytest.mark.parametrize(("count", "level"), [(1, "BAD"), (2, "CHECK"), (7, "CHECK"), (8, "OK"), (16, "OK")])
def test_a_single_sample_says_nothing(photographs: Samples, count: int, level: str) -> None:
    found = count_finding(photographs.part(slice(count)))
    assert (found.code, found.level, found.figures) == ("samples-few", level, {"samples": count, "distinct": count})


def test_one_image_repeated_is_one_image(photographs: Samples) -> None:
    found = count_finding(Samples(np.repeat(photographs.images[:1], 64, axis=0)))
    assert (found.code, found.level) == ("samples-repeated", "BAD")
    assert found.message.startswith("1 different samples among 64")
    assert count_finding(Samples(np.concatenate([photographs.images] * 2))).level == "OK"


def test_zeros_are_bad() -> None:
    found = constant_finding(Samples(np.zeros((16, 3, 8, 8), np.float32)), UNIT)
    assert (found.level, found.message.split(":")[0]) == ("BAD", "all samples are zeros")


@pytest.mark.parametrize(("count", "level"), [(0, "OK"), (2, "CHECK"), (8, "BAD"), (16, "BAD")])
@pytest.mark.parametrize("known", [True, False])
def test_images_of_one_color(photographs: Samples, count: int, level: str, *, known: bool) -> None:
    images = photographs.images.copy()
    images[:count] = 0.7
    found = constant_finding(Samples(images), UNIT if known else None)
    assert found.level == level
    assert found.figures is not None
    assert found.figures["constant_share"] == count / 16


def test_one_color_of_three_values_is_no_contrast() -> None:
    colors = np.random.default_rng(0).random((8, 3, 1, 1), np.float32)
    images = np.ascontiguousarray(np.broadcast_to(colors, (8, 3, 4, 4)))
    assert constant_finding(Samples(images), UNIT, 1).level == "BAD"
    assert constant_finding(Samples(np.ascontiguousarray(images.transpose(0, 2, 3, 1))), UNIT, 3).level == "BAD"
    assert constant_finding(Samples(images.reshape(8, -1)), None).level == "OK"


def test_single_values_have_no_contrast_to_lose() -> None:
    assert constant_finding(Samples(np.arange(9, dtype=np.float32).reshape(9, 1)), None).level == "OK"


@pytest.mark.parametrize("name", PREPROCESSES)
def test_what_the_preprocess_gives_is_in_its_range(name: str) -> None:
    preprocess = PREPROCESSES[name]
    samples = preprocess.apply(PIXELS)
    found = range_finding(Samples(samples), preprocess, 1)
    assert found.level == "OK"
    assert found.figures is not None
    assert found.figures["outside_share"] == 0
    last = range_finding(Samples(np.ascontiguousarray(samples.transpose(0, 2, 3, 1))), preprocess, 3)
    assert last.figures == pytest.approx(found.figures)


def test_0_to_255_are_not_what_0_to_1_is() -> None:
    found = range_finding(Samples(PREPROCESSES["raw"].apply(PIXELS)), UNIT, 1)
    assert found.level == "BAD"
    assert "% of the values are none that the preprocess can give" in found.message
    assert "give the --preprocess" in found.remedy


def test_0_to_1_are_not_what_0_to_255_is(photographs: Samples) -> None:
    found = range_finding(photographs, PREPROCESSES["raw"], 1)
    assert found.level == "BAD"
    assert found.message.startswith("the samples use little of what the preprocess spans: pixels of 0")


def test_dark_images_are_worth_a_look() -> None:
    assert range_finding(Samples(IMAGENET.apply(PIXELS // 8)), IMAGENET, 1).level == "CHECK"
