"""The filter's gain on waves of a known frequency, and what passes through it."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from dfq_deploy.cli.main import main
from dfq_deploy.cli.plugin_options import synthesizer_of
from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.synthesis.methods.lowpass import LowPass, low_pass, low_passed
from dfq_deploy.synthesis.methods.noise import Noise


@pytest.mark.parametrize(("height", "width", "up", "across"), [(224, 224, 0, 40), (224, 224, 30, 40), (32, 48, 5, 9)])
@pytest.mark.parametrize("radius", [20.0, 80.0])
def test_a_wave_is_damped_by_the_gaussian_of_its_frequency(
    height: int, width: int, up: int, across: int, radius: float
) -> None:
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    wave = torch.cos(2 * math.pi * (up * rows + across * columns) + 0.7)[None, None]
    # So many periods in 224 pixels; at 224 pixels, in the whole image.
    distance = math.hypot(up * 224 / height, across * 224 / width)
    gain = math.exp(-(distance**2) / (2 * radius**2))
    torch.testing.assert_close(low_pass(2 + wave, radius), 2 + gain * wave, rtol=1e-4, atol=1e-4)


def request(**more: Any) -> SynthesisRequest:
    return SynthesisRequest(70, (3, 9, 8), seed=1, **more)


def test_samples_of_a_method_pass_through_it() -> None:
    plain = Noise("gaussian").synthesize([], request()).images
    filtered = LowPass(Noise("gaussian"), 60).synthesize([], request()).images
    torch.testing.assert_close(torch.from_numpy(filtered), low_pass(torch.from_numpy(plain), 60))
    assert filtered.std() < 0.6 * plain.std()
    np.testing.assert_allclose(filtered.mean((2, 3)), plain.mean((2, 3)), atol=1e-5)


def test_what_is_no_image_stays_as_it_is() -> None:
    method = Noise("gaussian")
    asked = SynthesisRequest(5, (7,), seed=1)
    np.testing.assert_array_equal(LowPass(method, 20).synthesize([], asked).images, method.synthesize([], asked).images)


def test_pixels_keep_to_what_they_can_be() -> None:
    images = LowPass(Noise("gaussian"), 500).synthesize([], request(preprocess=PREPROCESSES["zero-one"])).images
    assert images.min() == 0
    assert images.max() == 1


@dataclass(frozen=True)
class Drawn(Noise):
    """A generative method in the tests' own words."""

    summary: ClassVar[str] = "drawn"

    def prepare(self, teachers: object, request: object, progress: object = None) -> "Drawn":
        return self

    def source(self, teachers: object, request: object) -> "Drawn":
        return self

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return torch.randn(count, 3, 8, 8, generator=generator), torch.ones(count, 2)

    def adapt(self, students: object, generator: object) -> dict[str, float]:
        return {"loss": 1.0}

    def state(self) -> dict[str, Any]:
        return {"weights": 3}


def test_what_a_source_draws_passes_through_it() -> None:
    method: Any = low_passed(Drawn(), 30)
    for source in (method.prepare([], request()), method.source([], request())):
        images, labels = source.draw(4, torch.Generator().manual_seed(2))
        torch.testing.assert_close(
            images, low_pass(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2)), 30)
        )
        assert labels.shape == (4, 2)
        assert source.adapt([], torch.Generator()) == {"loss": 1.0}
        assert source.state() == {"weights": 3}
    assert not hasattr(low_passed(Noise(), 30), "prepare")


def test_it_is_an_option_of_every_method() -> None:
    assert synthesizer_of("noise", None, ["lowpass=80", "distribution=gaussian"]) == LowPass(Noise("gaussian"), 80)
    assert synthesizer_of("noise", None, ["lowpass=40"]) == LowPass(Noise(), 40)
    assert synthesizer_of("noise", None, []) == "noise"


@pytest.mark.parametrize(("value", "words"), [("0", "lowpass=0 must be above 0"), ("much", "'much' is not a number")])
def test_what_is_no_radius_is_refused(value: str, words: str, digits_bn: Any) -> None:
    arguments = ["synthesize", str(digits_bn), "--method", "noise", "--option", f"lowpass={value}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    with pytest.raises(OptionError, match="lowpass=-1 must be above 0; SynQ uses 20 to 100"):
        LowPass(Noise(), -1)
