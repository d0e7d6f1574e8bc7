"""Learning in School: who teaches which batch, and what they see."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dfq_deploy import synthesize
from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.synthesis.inversion.loop import Inversion, Stage
from dfq_deploy.synthesis.inversion.objective import DeepInversionObjective
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, relative_distance
from dfq_deploy.synthesis.methods import lis
from dfq_deploy.synthesis.methods.lis import Lis
from dfq_deploy.synthesis.teachers import Teacher
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[DeepInversionObjective]:
    """The objectives of the batches, none of which descends."""
    seen: list[DeepInversionObjective] = []

    def start(
        method: str, parameters: object, objective: DeepInversionObjective, stages: Sequence[Stage], generator: object
    ) -> Inversion:
        seen.append(objective)
        return Inversion(method, parameters, objective, [], generator)  # type: ignore[arg-type]

    monkeypatch.setattr(lis, "Inversion", start)
    return seen


def twins(tiny: Model, count: int) -> list[Twin]:
    return [Twin.from_model(load(tiny(seed=seed))) for seed in range(count)]


def test_each_batch_draws_its_teachers(tiny: Model, drawn: list[DeepInversionObjective]) -> None:
    teachers = twins(tiny, 4)
    Lis(batch=2).synthesize(teachers, SynthesisRequest(24, (3, 8, 8), 4))
    assert len(drawn) == 12
    assert all(1 <= len(objective.teachers) <= 2 for objective in drawn)
    assert {teachers.index(teacher) for objective in drawn for teacher in objective.teachers} == {0, 1, 2, 3}
    assert len({tuple(map(id, objective.teachers)) for objective in drawn}) > 2
    drawn.clear()
    Lis(batch=2, together=4).synthesize(teachers, SynthesisRequest(2, (3, 8, 8), 4))
    assert len(drawn[0].teachers) == 4


def test_targets_are_soft_where_boxes_are_mixed(tiny: Model, drawn: list[DeepInversionObjective]) -> None:
    for mixing in (0.5, 0.0):
        Lis(mixing=mixing).synthesize(twins(tiny, 1), SynthesisRequest(8, (3, 8, 8), 4))
    soft, plain = (objective.targets for objective in drawn)
    assert soft is not None
    assert plain is not None
    assert (soft.shape, plain.shape) == ((8, 4), (8,))
    assert torch.equal(soft.argmax(1), plain)
    assert torch.equal(soft.sum(1), torch.ones(8))


def test_every_teacher_sees_the_image_in_its_own_input_space(digits_bn: Path) -> None:
    own, given = Preprocess((0.305,), (0.319,)), PREPROCESSES["minus-one-one"]
    samples = synthesize(
        digits_bn, synth=Lis(iterations=60), teachers=[Teacher(digits_bn, own)], count=16, preprocess=given
    )
    assert (samples.method, samples.notes) == ("lis", ())
    twin = Twin.from_model(load(digits_bn))

    def distance(images: np.ndarray) -> float:
        return relative_distance(FeatureStatistics(twin).run(torch.from_numpy(images.astype(np.float32)))[1])

    assert np.abs(samples.images).max() <= 1 + 1e-5
    pixels = (samples.images + 1) / 2
    found = distance((pixels - 0.305) / 0.319)
    assert found < 0.5 * distance(samples.images)
    assert found < 0.5 * distance((np.random.default_rng(0).random(pixels.shape) - 0.305) / 0.319)
    assert samples.figures["target_hit"] > 0.5


def test_a_teacher_without_normalization_is_named(digits_bn: Path, digits_folded: Path) -> None:
    teachers = [Twin.from_model(load(file)) for file in (digits_bn, digits_folded)]
    with pytest.raises(ModelError, match="lis needs BatchNormalization, and none is left in teacher 2 of 2"):
        Lis().synthesize(teachers, SynthesisRequest(2, (1, 16, 16), 10))


def test_a_share_is_a_share() -> None:
    with pytest.raises(OptionError, match=r"^lis: mixing=1\.5 must be a share from 0 to 1$"):
        Lis(mixing=1.5)
