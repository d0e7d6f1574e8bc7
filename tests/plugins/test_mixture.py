"""Mixtures of methods: shares, order, name, what they need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import click
import numpy as np
import pytest

from dfq_deploy.cli.plugin_options import synthesizer_of as from_command_line
from dfq_deploy.errors import OptionError, PluginError
from dfq_deploy.plugins.contracts import SynthesisRequest, Synthesizer
from dfq_deploy.plugins.mixture import Mixture
from dfq_deploy.plugins.registry import synthesizer_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.methods.lowpass import LowPass
from dfq_deploy.twin import Twin


@dataclass(frozen=True)
class Constant(Synthesizer):
    """Samples of one value."""

    value: float = 0.0
    summary: ClassVar[str] = "samples of one value"
    needs_statistics: ClassVar[bool] = False

    def synthesize(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Samples:
        return Samples(np.full((request.count, *request.shape), self.value, np.float32), figures={str(self.value): 1.0})


def test_shares_are_equal_and_every_part_of_the_set_has_both() -> None:
    mixture = Mixture((Constant(1), Constant(2)))
    samples = mixture.synthesize((), SynthesisRequest(65, (2,)))
    values = samples.images[:, 0]
    assert [(values == value).sum() for value in (1, 2)] == [33, 32]
    assert set(values[7::8]) == {1, 2}  # every eighth sample is held out
    assert samples.figures == {"1": 1.0, "2": 1.0}


def test_a_name_with_a_plus_is_a_mixture() -> None:
    mixture = synthesizer_of("procedural+photographs")
    assert mixture.name == "procedural+photographs"
    assert not mixture.needs_statistics
    assert synthesizer_of("deepinversion + procedural").needs_statistics
    images = mixture.synthesize((), SynthesisRequest(6, (3, 16, 16), seed=1)).images
    np.testing.assert_array_equal(images, mixture.synthesize((), SynthesisRequest(6, (3, 16, 16), seed=1)).images)
    assert len({image.tobytes() for image in images}) == 6


def test_the_command_line_gives_a_mixture_no_options_but_the_filter() -> None:
    made = from_command_line("procedural+photographs", None, ["lowpass=40"])
    assert isinstance(made, LowPass)
    assert made.name == "procedural+photographs"
    with pytest.raises(click.UsageError, match="takes no options of its methods"):
        from_command_line("procedural+photographs", None, ["texture=0.1"])


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(PluginError, match="no synthesizer 'nothing'"):
        synthesizer_of("procedural+nothing")
    with pytest.raises(OptionError, match=r"1 method\(s\); at least two"):
        Mixture((Constant(),))
    with pytest.raises(OptionError, match="1 sample"):
        Mixture((Constant(1), Constant(2))).synthesize((), SynthesisRequest(1, (2,)))
