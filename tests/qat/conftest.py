"""What the tests of training share: samples of the example's network, and digits to judge by."""

from pathlib import Path

import pytest

from dfq_deploy import Samples, synthesize
from dfq_deploy.synthesis.deepinversion import DeepInversion
from examples.digits import data


@pytest.fixture(scope="package")
def digits(digits_bn: Path) -> Samples:
    """192 samples that are made from the network alone."""
    return synthesize(digits_bn, synth=DeepInversion(iterations=60), count=192, preprocess=data.PREPROCESS)


@pytest.fixture(scope="package")
def held_out() -> Samples:
    """Real digits that nothing is trained on."""
    pictures = data.held_out()
    return Samples(data.PREPROCESS.apply(pictures.images), pictures.labels)
