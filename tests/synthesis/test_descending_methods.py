"""What every method of descent has to do on the example's network: come closer to the statistics, and tell its seed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, relative_distance
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.synthesis.methods.genie import Genie
from dfq_deploy.synthesis.methods.hast import Hast
from dfq_deploy.synthesis.methods.lis import Lis
from dfq_deploy.synthesis.methods.noise import Noise
from dfq_deploy.synthesis.methods.zeroq import ZeroQ
from dfq_deploy.twin import Twin

PIXELS = Preprocess(mean=(0.305,), std=(0.319,))

METHODS: dict[str, Callable[..., Any]] = {"zeroq": ZeroQ, "hast": Hast, "genie": Genie, "lis": Lis}

FACTORS = {"zeroq": 0.5, "hast": 0.7, "genie": 0.5, "lis": 0.5}
"""Of noise's distance, at most, after 60 to 150 iterations."""

ITERATIONS = {"zeroq": 60, "hast": 150, "genie": 80, "lis": 80}


@pytest.fixture(scope="module")
def teacher(digits_bn: Path) -> Twin:
    return Twin.from_model(load(digits_bn))


def request_of(count: int = 16, seed: int = 0, **more: Any) -> SynthesisRequest:
    return replace(SynthesisRequest(count, (1, 16, 16), 10, PIXELS, seed), **more)


def distance(teacher: Twin, images: np.ndarray) -> float:
    return relative_distance(FeatureStatistics(teacher).run(torch.from_numpy(images))[1])


@pytest.mark.parametrize("name", METHODS)
def test_statistics_come_closer_than_those_of_noise(teacher: Twin, name: str) -> None:
    method: Synthesizer = METHODS[name](iterations=ITERATIONS[name])
    samples = method.synthesize([teacher], request_of())
    found = distance(teacher, samples.images)
    assert samples.figures["statistics_distance"] == pytest.approx(found, rel=0.1)
    for distribution in ("uniform", "gaussian"):
        noise = Noise(distribution).synthesize([], request_of()).images
        assert found < FACTORS[name] * distance(teacher, noise)
    low, high = (bound.item() for bound in PIXELS.bounds(1))
    assert low - 1e-5 <= samples.images.min() < samples.images.max() <= high + 1e-5
    assert samples.images.shape == (16, 1, 16, 16)
    assert samples.images.dtype == np.float32
    # The labels are the teacher's softmax of the images that are handed out.
    soft = torch.softmax(teacher(torch.from_numpy(samples.images)), 1).numpy()
    assert isinstance(samples.labels, np.ndarray)
    np.testing.assert_allclose(samples.labels, soft, atol=0.05)


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides_and_the_global_generator_is_left_alone(teacher: Twin, name: str) -> None:
    method: Synthesizer = METHODS[name](iterations=3, batch=2)
    before = torch.get_rng_state()
    first, again, other = (method.synthesize([teacher], request_of(4, seed)).images for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.3
    assert np.abs(first[:2] - first[2:]).mean() > 0.3  # each batch is drawn anew
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", METHODS)
def test_without_classes_there_are_no_labels(teacher: Twin, name: str) -> None:
    samples = METHODS[name](iterations=2).synthesize([teacher], request_of(3, classes=None))
    assert samples.labels is None
    assert set(samples.figures) == {"statistics_distance"}


@pytest.mark.parametrize("name", ["deepinversion", "zeroq", "hast", "genie", "lis"])
def test_raw_pixels_start_in_their_own_range(teacher: Twin, name: str) -> None:
    request = request_of(8, preprocess=PREPROCESSES["raw"])
    images = {**METHODS, "deepinversion": DeepInversion}[name](iterations=2).synthesize([teacher], request).images
    assert 60 < images.mean() < 170
    assert images.std() > 20
    assert images.min() >= 0
    assert images.max() <= 255


@pytest.mark.parametrize("name", METHODS)
def test_without_normalization_the_way_out_is_said(digits_folded: Path, name: str) -> None:
    twin = Twin.from_model(load(digits_folded))
    with pytest.raises(ModelError, match=f"^{name} needs BatchNormalization, and none is left in the model"):
        METHODS[name]().synthesize([twin], request_of())


@pytest.mark.parametrize("name", METHODS)
def test_wrong_settings_are_refused(name: str) -> None:
    with pytest.raises(OptionError, match=f"^{name}: schedule 'long' is not one of auto, paper, short$"):
        METHODS[name](schedule="long")
    with pytest.raises(OptionError, match=f"^{name}: batch=0 must be at least 1$"):
        METHODS[name](batch=0)


@pytest.mark.parametrize("name", ["zeroq", "hast", "genie"])
def test_one_teacher_alone_is_inverted_and_said_to_be(teacher: Twin, name: str) -> None:
    (note,) = METHODS[name](iterations=1).synthesize([teacher, teacher], request_of(2)).notes
    assert note.startswith(f"{name} uses only the first of the 2 teachers")


@pytest.mark.parametrize(
    ("name", "paper", "short"), [("zeroq", 500, 100), ("hast", 1000, 200), ("genie", 4000, 400), ("lis", 2000, 200)]
)
def test_schedules(teacher: Twin, name: str, paper: int, short: int) -> None:
    class Enough(Exception):  # noqa: N818
        pass

    class Watch:
        def start(self, title: str, total: int) -> None:
            assert title == name
            raise Enough(total)

        def advance(self, steps: int = 1, **figures: float) -> None:
            raise AssertionError

    for schedule, iterations in (("paper", paper), ("short", short), ("auto", short)):
        with pytest.raises(Enough) as found:
            METHODS[name](schedule=schedule).synthesize([teacher], request_of(2), Watch())
        assert found.value.args == (iterations,)
