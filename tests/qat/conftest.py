"""What the tests of training share: the digits, and samples of the example's network."""

from pathlib import Path

import pytest

from dfq_deploy import Samples, synthesize
from examples.digits import data


@pytest.fixture(scope="package")
def digits(digits_bn: Path) -> Samples:
    """256 samples that are made from the network alone."""
    return synthesize(digits_bn, synth="procedural", count=256, preprocess=data.PREPROCESS)


@pytest.fixture(scope="package")
def held_out() -> Samples:
    """Real digits that nothing is trained on."""
    pictures = data.held_out()
    return Samples(data.PREPROCESS.apply(pictures.images), pictures.labels)
