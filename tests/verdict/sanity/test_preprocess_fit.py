"""Which preprocess fits, for input statistics and answers that are known."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.input_statistics import InputStatistics
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.sanity.preprocess_answers import answers_finding
from dfq_deploy.verdict.sanity.preprocess_fit import (
    PixelStatistics,
    candidates,
    exchanged_finding,
    implied_preprocess,
    impossible_finding,
    made_with_finding,
    misfit,
    pixel_statistics,
    statistics_finding,
    unchanged_finding,
    units_finding,
)

Model = Callable[..., onnx.ModelProto]

# Photographs of pixel mean 0.45 and deviation 0.25 as each preprocess hands them on.
TRAINED = {
    "imagenet": InputStatistics((-0.153, -0.027, 0.196), 1.11),
    "zero-one": InputStatistics((0.45, 0.45, 0.45), 0.25),
    "minus-one-one": InputStatistics((-0.1, -0.1, -0.1), 0.5),
    "raw": InputStatistics((114.75, 114.75, 114.75), 63.75),
}

LEVELS = {
    ("imagenet", "imagenet"): "OK",
    ("imagenet", "cifar10"): "OK",
    ("imagenet", "minus-one-one"): "CHECK",
    ("imagenet", "zero-one"): "BAD",
    ("imagenet", "raw"): "BAD",
    ("minus-one-one", "imagenet"): "OK",  # its range holds all that the model saw
    ("minus-one-one", "minus-one-one"): "OK",
    ("minus-one-one", "zero-one"): "BAD",
    ("minus-one-one", "raw"): "BAD",
    ("zero-one", "zero-one"): "OK",
    ("zero-one", "raw"): "BAD",
    ("raw", "raw"): "OK",
    ("raw", "zero-one"): "BAD",
    ("raw", "imagenet"): "BAD",
}


@pytest.mark.parametrize(("trained", "given"), LEVELS)
def test_a_preprocess_that_cannot_give_the_statistics_is_named(trained: str, given: str) -> None:
    found = statistics_finding(PREPROCESSES[given], TRAINED[trained], None)
    assert found.level == LEVELS[trained, given]
    if found.level != "OK":
        begin = f"--preprocess {given} does not fit the model: under it the network's statistics ask"
        assert found.message.startswith(begin)
        assert found.remedy.startswith(f"--preprocess {trained} is the nearest of the known ones")


def test_where_none_of_the_known_ones_fits_the_figures_are_given() -> None:
    # Dark pixels of mean 0.1 and deviation 0.05 that training standardized.
    expected, pixels = InputStatistics((0.0,), 1.0), PixelStatistics((0.1,), 0.05)
    found = statistics_finding(PREPROCESSES["raw"], expected, pixels)
    assert found.level == "BAD"
    assert found.remedy.startswith("none of the known ones fits (the nearest is ")
    assert found.remedy.endswith("give those of training, about --mean 0.10 --std 0.05")


@pytest.mark.parametrize("name", PREPROCESSES)
def test_pixels_come_back_and_their_own_statistics_fit(name: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    preprocess = PREPROCESSES[name]
    pixels = pixel_statistics(Samples(preprocess.apply(images)), preprocess, 1)
    np.testing.assert_allclose(pixels.mean, images.mean(axis=(0, 1, 2)) / 255, atol=1e-5)
    assert pixels.std == pytest.approx(np.sqrt((images / 255).var(axis=(0, 1, 2)).mean()), rel=0.02)
    low, high = preprocess.bounds(3)
    mean = low + np.asarray(pixels.mean) * (high - low)
    expected = InputStatistics(tuple(mean.tolist()), float(pixels.std * (high - low).mean()))
    assert misfit(preprocess, pixels, expected) == pytest.approx(0, abs=1e-5)


def test_figures_of_0_to_255_are_bad() -> None:
    found = units_finding(Preprocess((123.0, 117.0, 104.0), (58.0, 57.0, 57.0)))
    assert found is not None
    assert found.level == "BAD"
    assert found.remedy == "divide by 255: --mean 0.4824,0.4588,0.4078 --std 0.2275,0.2235,0.2235"
    assert units_finding(PREPROCESSES["raw"]) is None


def test_samples_of_another_preprocess_are_bad() -> None:
    made, given = PREPROCESSES["imagenet"], PREPROCESSES["minus-one-one"]
    found = made_with_finding(made, given)
    assert found is not None
    assert (found.code, found.level) == ("samples-preprocess", "BAD")
    assert found.remedy == "give --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225, or other samples"
    same = made_with_finding(given, Preprocess((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    assert same is not None
    assert same.level == "OK"
    assert made_with_finding(None, given) is None
    assert made_with_finding(made, None) is None


@pytest.fixture
def by_brightness(model_of: Model) -> onnx.ModelProto:
    """Three classes of mean value: below, about and above 0, with the slope of a network trained on [-1, 1]."""
    nodes = "p = GlobalAveragePool(x) f = Flatten(p) y = Gemm(f, w, b)"
    weights = {"w": np.array([[-20.0, 0, 20]], np.float32), "b": np.array([0, 6.0, 0], np.float32)}
    return model_of("float[n,1,4,4] x", "float[n,3] y", nodes, weights)


def shades(preprocess: Preprocess) -> Samples:
    return Samples(preprocess.apply(np.repeat(np.linspace(0, 255, 18), 16).reshape(18, 4, 4, 1).astype(np.uint8)))


@pytest.mark.parametrize(("given", "level"), [("minus-one-one", "OK"), ("zero-one", "BAD"), ("raw", "BAD")])
def test_answers_tell_the_preprocess_without_statistics(by_brightness: onnx.ModelProto, given: str, level: str) -> None:
    preprocess = PREPROCESSES[given]
    found = answers_finding(load(by_brightness), shades(preprocess), preprocess, 1)
    assert found is not None
    assert found.level == level


def test_images_that_nothing_recognizes_tell_nothing(by_brightness: onnx.ModelProto) -> None:
    same = Samples(np.repeat(shades(PREPROCESSES["raw"]).images[:1], 16, axis=0))
    assert answers_finding(load(by_brightness), same, PREPROCESSES["raw"], 1) is None


CIFAR = (0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)


@pytest.mark.parametrize(
    ("mean", "std"), [(CIFAR[1], CIFAR[0]), (PREPROCESSES["imagenet"].std, PREPROCESSES["imagenet"].mean)]
)
def test_an_exchanged_mean_and_std_are_named(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    found = exchanged_finding(Preprocess(mean, std))
    assert found is not None
    assert (found.code, found.level) == ("preprocess-units", "BAD")
    assert found.options == f"--mean {','.join(map(str, std))} --std {','.join(map(str, mean))}"


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        CIFAR,
        ((0.1307,), (0.3081,)),
        ((0.286,), (0.353,)),
        ((0.305,), (0.319,)),
        ((0.5,), (1.0,)),
        ((0.5,), (128 / 255,)),
    ]
    + [(entry.mean, entry.std) for entry in PREPROCESSES.values()],
)
def test_figures_that_a_training_may_have_are_not_exchanged(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert exchanged_finding(Preprocess(mean, std)) is None


@pytest.mark.parametrize(
    ("mean", "std", "level"),
    [
        ((0.0, 0.0, 0.0), (0.225, 0.225, 0.225), "CHECK"),
        ((1.0, 1.0, 1.0), (0.229, 0.224, 0.225), "CHECK"),
        ((-0.485, -0.456, -0.406), (0.229, 0.224, 0.225), "BAD"),
        ((0.5, 0.5, 1.2), (0.2, 0.2, 0.2), "BAD"),
    ],
)
def test_a_mean_that_no_pixels_have_is_named(mean: tuple[float, ...], std: tuple[float, ...], level: str) -> None:
    found = impossible_finding(Preprocess(mean, std))
    assert found is not None
    assert (found.code, found.level) == ("preprocess-units", level)
    assert found.message.startswith("no pixels have the mean")


def test_a_mean_of_the_wrong_sign_is_turned() -> None:
    found = impossible_finding(Preprocess((-0.5, -0.4), (0.2, 0.3)))
    assert found is not None
    assert found.options == "--mean 0.5,0.4 --std 0.2,0.3"


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        *((entry.mean, entry.std) for entry in PREPROCESSES.values()),
        ((0.0,), (1 / 256,)),
        ((0.0,), (0.5,)),
        ((0.408, 0.459, 0.482), (1 / 255,) * 3),
        ((0.498,), (0.502,)),
        ((0.305,), (0.319,)),
    ],
)
def test_conventions_are_possible(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert impossible_finding(Preprocess(mean, std)) is None


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [(0, 1, "zero-one"), (0.02, 0.9, "zero-one"), (-1, 1, "minus-one-one"), (0, 255, "raw"), (-2.1, 2.6, None)],
)
def test_arrays_tell_their_preprocess_by_their_range(low: float, high: float, name: str | None) -> None:
    assert (
        implied_preprocess(Samples(np.linspace(low, high, 2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4))) == name
    )


def test_every_known_preprocess_is_named_by_options_that_are_taken() -> None:
    """``--preprocess imagenet`` has three means, which a grey input refuses."""
    assert {name.split()[1]: entry for name, entry in candidates(3).items()} == PREPROCESSES
    grey = candidates(1)
    assert grey["--mean 0.449 --std 0.226"] == Preprocess((0.449,), (0.226,))
    named = {name.split()[1] for name in grey if name.startswith("--preprocess")}
    assert named == {name for name, entry in PREPROCESSES.items() if len(entry.mean) == 1}
    assert len(grey) == len(PREPROCESSES)
    assert list(candidates(1, without="cifar10")) == [name for name in grey if name != "--mean 0.473 --std 0.201"]
    assert {name.split()[1] for name in candidates(4)} == named


@pytest.mark.parametrize(
    ("low", "high", "preprocess", "bad"),
    [
        (0, 1, "imagenet", True),
        (0, 255, "imagenet", True),
        (-2, 2.5, "imagenet", False),
        (0, 1, "zero-one", False),
        (0, 255, "raw", False),
        (0, 1, "minus-one-one", True),
        (-1, 1, "minus-one-one", False),
    ],
)
def test_arrays_that_no_preprocess_changes_are_not_blamed_on_it(
    low: float, high: float, preprocess: str, bad: bool
) -> None:
    images = np.random.default_rng(0).uniform(low, high, (8, 3, 6, 6)).astype(np.float32)
    found = unchanged_finding(Samples(images), PREPROCESSES[preprocess], 1)
    assert (found is not None) is bad
    assert unchanged_finding(Samples(images, method="procedural"), PREPROCESSES[preprocess], 1) is None
    if found is not None:
        assert (found.code, found.level) == ("preprocess-unchanged", "BAD")
