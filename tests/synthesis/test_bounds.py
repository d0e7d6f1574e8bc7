"""Bounds of samples: from options, the graph, and names and shapes of inputs."""

import numpy as np
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.bounds import bounds_note, sample_bounds
from tests.conftest import ModelOf

SOUND = Preprocess((0.5,), (0.5,))


def bounds_of(model_of: ModelOf, inputs: str) -> Preprocess | None:
    name = inputs.rpartition(" ")[2]
    return sample_bounds(load(model_of(inputs, "float y", f"y = Relu({name})", {})), None, {})


@pytest.mark.parametrize(
    "inputs", ["float[n,512] waveform", "float[n,1,512] speech", "float[n,2,512] audio", "float[n,512] pcm"]
)
def test_waveforms_lie_between_minus_one_and_one(model_of: ModelOf, inputs: str) -> None:
    assert bounds_of(model_of, inputs) == SOUND


@pytest.mark.parametrize(
    "inputs",
    [
        "float[n,512] audio_features",
        "float[n,512] speechEmbedding",
        "float[n,512] mel_audio",
        "float[n,80,512] speech",
        "float[n,16] audio",
        "float[n,512] x",
    ],
)
def test_what_is_computed_from_sound_has_no_known_bounds(model_of: ModelOf, inputs: str) -> None:
    assert bounds_of(model_of, inputs) is None


def test_the_range_of_the_caller_comes_first(model_of: ModelOf) -> None:
    model = load(model_of("float[n,512] waveform", "float y", "y = Relu(waveform)", {}))
    bounds = sample_bounds(model, None, {"waveform": (-2.0, 6.0)})
    assert bounds is not None
    np.testing.assert_allclose(bounds.bounds(1), [[-2.0], [6.0]])


def test_the_note_names_the_input(model_of: ModelOf) -> None:
    model = load(model_of("float[n,512] waveform", "float y", "y = Relu(waveform)", {}))
    assert bounds_note(model, ()).startswith("input 'waveform' seems to take sound, whose values lie between -1 and 1")
