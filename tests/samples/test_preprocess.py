"""Pixels to the model's input and back."""

import numpy as np
import pytest

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.errors import OptionError, SamplesError
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess, divided_by_255, preprocess_of_units

EVERY_PIXEL = np.arange(256, dtype=np.uint8)


def test_names_that_the_command_line_promises() -> None:
    assert set(PREPROCESSES) == {"imagenet", "cifar10", "zero-one", "minus-one-one", "raw"}


@pytest.mark.parametrize(
    ("name", "black", "white"),
    [
        ("imagenet", (-2.1179039, -2.0357143, -1.8044444), (2.2489083, 2.4285714, 2.64)),
        ("zero-one", (0, 0, 0), (1, 1, 1)),
        ("minus-one-one", (-1, -1, -1), (1, 1, 1)),
        ("raw", (0, 0, 0), (255, 255, 255)),
    ],
)
def test_bounds_by_hand(name: str, black: tuple[float, ...], white: tuple[float, ...]) -> None:
    low, high = PREPROCESSES[name].bounds(3)
    assert low.dtype == high.dtype == np.float32
    np.testing.assert_allclose(low, black, rtol=1e-6)
    np.testing.assert_allclose(high, white, rtol=1e-6)


def test_range_over_all_channels() -> None:
    span = PREPROCESSES["imagenet"].range(3)
    assert span.low == pytest.approx(-2.1179039)
    assert span.high == pytest.approx(2.64)


@pytest.mark.parametrize("name", PREPROCESSES)
def test_as_the_formula_says(name: str) -> None:
    preprocess = PREPROCESSES[name]
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    expected = (images / 255 - np.resize(preprocess.mean, 3)) / np.resize(preprocess.std, 3)
    inputs = preprocess.apply(images)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    np.testing.assert_allclose(inputs, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", PREPROCESSES)
def test_every_pixel_comes_back(name: str) -> None:
    images = np.stack([EVERY_PIXEL, EVERY_PIXEL[::-1], np.roll(EVERY_PIXEL, 99)], axis=-1).reshape(1, 16, 16, 3)
    pixels = PREPROCESSES[name].pixels(PREPROCESSES[name].apply(images))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, images)


def test_what_lies_outside_is_clipped() -> None:
    inputs = np.array([-7, -1, 0, 1, 7], np.float32).reshape(1, 1, 1, 5)
    assert PREPROCESSES["minus-one-one"].pixels(inputs).ravel().tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("signed", [False, True])
def test_no_pixel_lies_between_two_integers(signed: bool) -> None:
    # In [-1, 1] zero lies halfway between pixels 127 and 128, and so does every pixel between two integers of 2 / 255.
    qtype = QuantType(8, signed=signed, symmetric=False)
    pixels = PREPROCESSES["minus-one-one"].apply(np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)).ravel()
    exact = Encoding.of_range(PREPROCESSES["minus-one-one"].range(1), qtype)
    fitted = Encoding.of_range(PREPROCESSES["minus-one-one"].range_for(1, qtype), qtype)
    errors = [np.square((e.dequantize(e.quantize(pixels)) - pixels) / e.scale).mean() for e in (exact, fitted)]
    assert errors[0] == pytest.approx(1 / 4, rel=0.01)  # half a step each
    assert errors[1] < 1 / 12  # no worse than anywhere between two integers
    assert len(set(fitted.quantize(pixels))) == 255 > len(set(exact.quantize(pixels)))


@pytest.mark.parametrize("name", ["imagenet", "cifar10", "zero-one", "raw"])
def test_a_range_that_fits_pixels_stays(name: str) -> None:
    qtype = QuantType(8, signed=False, symmetric=False)
    assert PREPROCESSES[name].range_for(3, qtype) == PREPROCESSES[name].range(3)


def test_one_value_serves_all_channels() -> None:
    low, high = Preprocess((0.5,), (0.25,)).bounds(4)
    assert low.tolist() == [-2] * 4
    assert high.tolist() == [2] * 4


def test_channels_that_do_not_fit() -> None:
    with pytest.raises(SamplesError, match="preprocess has 3 channels and the model's input has 1"):
        PREPROCESSES["imagenet"].bounds(1)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((0.5,), (0.5, 0.5), r"1 mean\(s\) and 2 std\(s\)"),
        ((), (), r"0 mean\(s\) and 0 std\(s\)"),
        ((0.5,), (0.0,), "std must be positive"),
        ((0.5,), (-1.0,), "std must be positive"),
        ((float("nan"),), (1.0,), "all values finite"),
        ((0.5,), (float("nan"),), "all values finite"),
        ((0.5,), (float("inf"),), "all values finite"),
    ],
)
def test_values_that_make_no_sense(mean: tuple[float, ...], std: tuple[float, ...], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Preprocess(mean, std)


def test_figures_of_0_to_255_are_refused_with_what_to_type() -> None:
    words = (
        r"^mean 123,117,104 is in units of 0 to 255, but pixel / 255 is expected; divide by 255: "
        r"--mean 0\.4824,0\.4588,0\.4078 --std 0\.2275,0\.2235,0\.2235$"
    )
    with pytest.raises(OptionError, match=words):
        preprocess_of_units((123, 117, 104), (58, 57, 57))


def test_a_deviation_in_the_right_units_is_kept() -> None:
    assert divided_by_255(Preprocess((127.5,), (0.5,))) == Preprocess((0.5,), (0.5,))
    assert divided_by_255(Preprocess((127.5,), (1.0,))) == Preprocess((0.5,), (1 / 255,))


@pytest.mark.parametrize("name", PREPROCESSES)
def test_the_known_ones_are_in_units_of_pixel_by_255(name: str) -> None:
    assert divided_by_255(PREPROCESSES[name]) is None
    assert preprocess_of_units(PREPROCESSES[name].mean, PREPROCESSES[name].std) == PREPROCESSES[name]


@pytest.mark.parametrize(
    ("preprocess", "options"),
    [
        (PREPROCESSES["imagenet"], ("--preprocess", "imagenet")),
        (Preprocess((0.0,), (1.0,)), ("--preprocess", "zero-one")),
        (Preprocess((0.305,), (0.319,)), ("--mean", "0.305", "--std", "0.319")),
        (
            Preprocess((0.1, 0.2, 1 / 3), (0.5, 0.5, 1 / 255)),
            ("--mean", "0.1,0.2,0.333333", "--std", "0.5,0.5,0.00392157"),
        ),
    ],
)
def test_the_words_of_the_command_line(preprocess: Preprocess, options: tuple[str, ...]) -> None:
    assert preprocess.options == options


@pytest.mark.parametrize("name", PREPROCESSES)
def test_pixels_of_0_to_1_are_normalized_as_bytes_are(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    PREPROCESSES[name].normalize(pixels)
    np.testing.assert_array_equal(pixels, PREPROCESSES[name].apply(images))
