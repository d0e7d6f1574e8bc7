"""A batch in parts has the loss, the gradient and the samples of the whole batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dfq_deploy import synthesize
from dfq_deploy.errors import SamplesError
from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.inversion import parts
from dfq_deploy.synthesis.inversion.objective import DeepInversionObjective, LossWeights
from dfq_deploy.synthesis.inversion.parts import part_sizes, with_gradient
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.twin.teacher import teacher_of
from dfq_deploy.validation.bounds import Bounds, use_bounds
from examples.digits.data import PREPROCESS

WEIGHTS = LossWeights(
    class_weight=1.0, feature_weight=0.5, first_multiplier=10.0, tv_l2=1e-3, tv_l1=1e-2, l2=1e-3, hard=0.5
)


def small(monkeypatch: pytest.MonkeyPatch, size: int = 2**18) -> None:
    monkeypatch.setattr(parts, "MEMORY", {"cpu": size, "cuda": size})


def gradient(objective: DeepInversionObjective, images: torch.Tensor) -> tuple[float, torch.Tensor]:
    pixels = images.clone().requires_grad_()
    loss = objective.loss(pixels, torch.Generator())
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None
    assert np.isfinite(list(loss.figures().values())).all()
    return float(loss.total.detach()), pixels.grad


def test_parts_have_the_gradient_of_the_whole(digits_bn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = teacher_of(load(digits_bn), {}, "cpu")
    images = torch.randn(11, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(11) % 10
    value, expected = gradient(DeepInversionObjective(WEIGHTS, [teacher], targets), images)
    small(monkeypatch)
    sizes = part_sizes(teacher, [teacher], images)
    assert sum(sizes) == 11
    assert len(sizes) > 2
    assert max(sizes) - min(sizes) <= 1
    objective = DeepInversionObjective(WEIGHTS, [teacher], targets)
    _, first = gradient(objective, images)
    assert not torch.allclose(first, expected, rtol=1e-3, atol=1e-6)  # other parts have not been seen yet
    found, second = gradient(objective, images)
    assert found == pytest.approx(value, rel=1e-3)
    assert float((second - expected).norm()) < 1e-3 * float(expected.norm())


def test_a_known_gradient_is_passed_on() -> None:
    images = torch.zeros(2, 3, requires_grad=True)
    value = with_gradient(images * 2, torch.tensor(5.0), torch.full((2, 3), 7.0))
    (3 * value).backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None
    assert float(value.detach()) == 5
    torch.testing.assert_close(images.grad, torch.full((2, 3), 42.0))


def test_samples_in_parts_match_the_statistics_as_closely(digits_bn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = DeepInversion(iterations=16)
    whole = synthesize(digits_bn, synth=method, count=12, preprocess=PREPROCESS)
    small(monkeypatch, 2**20)
    parted = synthesize(digits_bn, synth=method, count=12, preprocess=PREPROCESS)
    assert not np.array_equal(parted.images, whole.images)
    assert parted.figures["statistics_distance"] < 1.2 * whole.figures["statistics_distance"]
    assert parted.figures["target_hit"] > whole.figures["target_hit"] - 0.2


def test_the_state_holds_what_other_parts_have_shown(digits_bn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    teacher = teacher_of(load(digits_bn), {}, "cpu")
    images = torch.randn(8, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    objective = DeepInversionObjective(WEIGHTS, [teacher], None)
    gradient(objective, images)
    state = objective.state()
    resumed = DeepInversionObjective(WEIGHTS, [teacher], None)
    resumed.restore(state)
    torch.testing.assert_close(gradient(resumed, images)[1], gradient(objective, images)[1])


def test_a_small_budget_makes_parts_and_says_so(digits_bn: Path, tmp_path: Path) -> None:
    method = DeepInversion(iterations=4, batch=6)
    whole = synthesize(digits_bn, synth=method, count=12, preprocess=PREPROCESS)
    assert not any("--max-memory" in sentence for sentence in whole.notes)
    with use_bounds(Bounds(memory=2**20)):
        parted = synthesize(digits_bn, synth=method, count=12, preprocess=PREPROCESS, unfinished=tmp_path / "j")
        said = "--max-memory leaves 0.262 MB to the features of a batch, so the inversion ran its batches in "
        assert sum(sentence.startswith(said) for sentence in parted.notes) == 1
        again = synthesize(
            digits_bn, synth=method, count=12, preprocess=PREPROCESS, unfinished=tmp_path / "j", resume=True
        )
    assert again.notes == parted.notes
    np.testing.assert_array_equal(again.images, parted.images)
    assert not np.array_equal(parted.images, whole.images)
    refusal = r"^--resume: --max-memory was 1,048,576 bytes and is not below 2 GiB now"
    with use_bounds(Bounds(memory=2**32)), pytest.raises(SamplesError, match=refusal):
        synthesize(digits_bn, synth=method, count=12, preprocess=PREPROCESS, unfinished=tmp_path / "j", resume=True)
