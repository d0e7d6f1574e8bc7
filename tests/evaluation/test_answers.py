"""What both models answer to single samples."""

import math

import numpy as np
import pytest

from dfq_deploy.evaluation.answers import answers, shown_samples
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.batches import held_out_of
from dfq_deploy.samples.samples import Samples
from tests.conftest import ModelOf

EYE = np.eye(3, dtype=np.float32)


def logits(model_of: ModelOf, weight: np.ndarray, outputs: str = "float[n,3] y", end: str = "") -> Runner:
    model = model_of("float[n,3] x", outputs, f"y = MatMul(x, w) {end}", {"w": weight})
    return Runner(model.SerializeToString(), task="classify")


def test_class_and_confidence_of_each_sample(model_of: ModelOf) -> None:
    images = np.array([[3.0, 0.0, 0.0], [0.0, 1.0, 0.9], [0.0, 0.0, 2.0]], np.float32)
    swapped = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], np.float32)
    samples = Samples(images, labels=np.array([0, 1, 2]))
    found = answers(logits(model_of, EYE), logits(model_of, swapped), samples, (0, 1, 2))
    assert [(entry.first.category, entry.second.category) for entry in found] == [(0, 0), (1, 2), (2, 1)]
    assert [entry.label for entry in found] == [0, 1, 2]
    assert found[0].first.confidence == pytest.approx(math.exp(3) / (math.exp(3) + 2))
    assert found[0].snr == math.inf
    assert found[0].to_json()["snr_db"] is None
    assert found[2].snr == pytest.approx(10 * math.log10(4 / 8))


def test_held_out_samples_come_first() -> None:
    samples = Samples(np.arange(64, dtype=np.float32)[:, None])
    shown = shown_samples(samples)
    held = {int(value) for value in held_out_of(samples).images[:, 0]}
    assert set(shown[:8]) == held
    assert len(shown) == len(set(shown)) == 24
    assert not held & set(shown[8:])


@pytest.mark.parametrize(("count", "size", "expected"), [(3, 4, 3), (100, 4, 24), (100, 2**20, 6), (5, 2**20, 5)])
def test_how_many_are_shown(count: int, size: int, expected: int) -> None:
    samples = Samples(np.broadcast_to(np.zeros((1, 1), np.float32), (count, size)))
    assert len(shown_samples(samples)) == expected


def test_a_model_without_classes_has_signal_to_noise(model_of: ModelOf) -> None:
    text = "h = MatMul(x, w) y = Mul(h, h)"
    models = [model_of("float[n,3] x", "float[n,3] y", text, {"w": factor * EYE}) for factor in (1.0, 1.1)]
    runners = [Runner(model.SerializeToString(), task="regress") for model in models]
    (only,) = answers(runners[0], runners[1], Samples(np.ones((1, 3), np.float32)), (0,))
    assert (only.first.category, only.first.confidence) == (None, None)
    assert only.snr == pytest.approx(-20 * math.log10(0.21), abs=1e-3)
