"""BatchNormalization that is put back keeps the outputs, and has the statistics of the pictures."""

from pathlib import Path

import numpy as np
import pytest

from dfq_deploy import Samples, synthesize
from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.sample_quality import quality
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.query import batch_normalizations
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.synthesis.measured_statistics import with_measured_statistics
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from examples.digits.data import PREPROCESS
from tests.conftest import ModelOf


def test_outputs_stay_and_statistics_are_those_of_the_pictures(digits_folded: Path) -> None:
    model = load(digits_folded)
    pictures = synthesize(digits_folded, synth="procedural", count=48, preprocess=PREPROCESS)
    restored = with_measured_statistics(model, pictures)
    convolutions = [node for node in model.graph if node.op_type == "Conv"]
    assert len(batch_normalizations(restored)) == len(convolutions)
    assert not batch_normalizations(model)
    (expected,), (found,) = (Runner(one).run(pictures) for one in (model, restored))
    assert isinstance(expected, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert quality(pictures, restored)["statistics_distance"] < 1e-3


def test_a_folded_file_can_be_inverted_against_pictures(digits_folded: Path) -> None:
    method = DeepInversion(iterations=12)
    samples = synthesize(digits_folded, synth=method, count=6, preprocess=PREPROCESS, statistics="procedural")
    assert samples.method == "deepinversion"
    (note,) = samples.notes
    assert "matched the statistics of 256 procedural samples" in note
    other = synthesize(digits_folded, synth=method, count=6, preprocess=PREPROCESS, statistics="noise")
    assert not np.array_equal(samples.images, other.images)


def test_without_a_convolution_there_is_nothing_to_match(model_of: ModelOf) -> None:
    model = load(model_of("float[n,4] x", "float[n,3] y", "y = MatMul(x, w)", {"w": np.ones((4, 3), np.float32)}))
    with pytest.raises(ModelError, match="no convolution whose statistics could be measured"):
        with_measured_statistics(model, Samples(np.ones((2, 4), np.float32)))
