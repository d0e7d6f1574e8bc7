"""Offsets of the first layers: the right preprocess passes, inputs that are too small are named."""

from pathlib import Path

import numpy as np
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.verdict.sanity.preprocess_offsets import offset, offsets, offsets_finding
from examples.digits import data
from tests.conftest import ModelOf


def test_the_right_preprocess_of_the_digits_passes(digits_folded: Path) -> None:
    found = offsets_finding(load(digits_folded), data.PREPROCESS)
    assert found is not None
    assert (found.code, found.level, found.remedy) == ("preprocess-fit", "OK", "")


def test_inputs_that_are_too_small_are_named(digits_folded: Path) -> None:
    found = offsets_finding(load(digits_folded), PREPROCESSES["zero-one"])
    assert found is not None
    assert found.level == "BAD"
    assert found.message.startswith(
        "--preprocess zero-one does not seem to fit the model: channels of the first layers"
    )
    assert " on photographs under --preprocess zero-one, " in found.message


@pytest.mark.parametrize(("std", "expected"), [(0.5, 0.5), (5.0, 5.0)])
def test_offset_grows_with_the_std_of_the_preprocess(model_of: ModelOf, std: float, expected: float) -> None:
    """A layer that subtracts the mean of photographs and adds a bias: the offset is the bias over the deviation."""
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[:, 0] = 1
    model = load(
        model_of(
            "float[n,3,16,16] x", "float[n,2,16,16] y", "y = Conv(x, w, b)", {"w": weight, "b": np.ones(2, np.float32)}
        )
    )
    low = offset(model, Preprocess((0.45,), (std,)))
    high = offset(model, Preprocess((0.45,), (2 * std,)))
    assert low is not None
    assert high is not None
    assert high > 1.5 * low
    assert low == pytest.approx(expected / 0.25, rel=0.6)


def test_several_preprocesses_in_one_session_are_measured_as_alone(digits_folded: Path) -> None:
    model, tried = load(digits_folded), [data.PREPROCESS, PREPROCESSES["zero-one"]]
    assert [*offsets(model, tried)] == [offset(model, preprocess) for preprocess in tried]
    assert len({*offsets(model, tried)}) == 2


def test_a_model_that_does_not_begin_with_a_convolution_is_left_alone(model_of: ModelOf) -> None:
    model = load(model_of("float[n,8] x", "float[n,2] y", "y = MatMul(x, w)", {"w": np.ones((8, 2), np.float32)}))
    assert offsets_finding(model, data.PREPROCESS) is None


@pytest.mark.parametrize(("bias", "expected"), [(0.02, None), (2.0, "BAD")])
def test_only_means_that_biases_make_are_offsets(model_of: ModelOf, bias: float, expected: str | None) -> None:
    """Pictures from 0 to 1 through a low-pass: their own mean is far from 0 as well, and says nothing."""
    rng = np.random.default_rng(0)
    weight = (0.2 + 0.05 * rng.standard_normal((6, 3, 3, 3))).astype(np.float32) / 6
    model = load(
        model_of(
            "float[n,3,32,32] x",
            "float[n,6,30,30] y",
            "y = Conv(x, w, b)",
            {"w": weight, "b": np.full(6, bias, np.float32)},
        )
    )
    low = offset(model, PREPROCESSES["zero-one"])
    assert low is not None
    assert low > 1.5
    found = offsets_finding(model, PREPROCESSES["zero-one"])
    assert (None if found is None else found.level) == expected
