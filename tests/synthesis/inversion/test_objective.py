"""The objective of one teacher and of several, from terms that are tested by themselves."""

from collections.abc import Callable

import onnx
import pytest
import torch
from torch import Tensor

from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.inversion.objective import DeepInversionObjective, LossWeights
from dfq_deploy.synthesis.losses.image_priors import competition, image_norm, total_variation
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]

TARGETS = torch.tensor([0, 3, 1])


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def twin(tiny: Model, seed: int) -> Twin:
    return Twin.from_model(load(tiny(seed=seed)))


def total(objective: DeepInversionObjective, images: Tensor) -> float:
    return objective.loss(images, torch.Generator().manual_seed(0)).total.item()


def terms(model: Twin, images: Tensor) -> tuple[float, float]:
    """Cross-entropy and the first layer's distance, in plain torch."""
    features = torch.nn.functional.conv2d(images, model.initializer("conv.weight"), padding=1)
    var, mean = torch.var_mean(features, (0, 2, 3), correction=0)
    distance = (mean - model.initializer("bn.mean")).norm() + (var - model.initializer("bn.var")).norm()
    scores = model(images)
    assert isinstance(scores, Tensor)
    entropy = -torch.log_softmax(scores, 1)[range(3), TARGETS].mean()
    return float(entropy), float(distance)


def test_the_terms_are_added_by_their_weights(tiny: Model, images: Tensor) -> None:
    model = twin(tiny, 0)
    entropy, distance = terms(model, images)
    l1, l2 = (float(value) for value in total_variation(images))
    weights = LossWeights(class_weight=2, feature_weight=0.5, first_multiplier=10, tv_l2=0.1, tv_l1=0.3, l2=0.7)
    wanted = 2 * entropy + 0.5 * 10 * distance + 0.1 * l2 + 0.3 * l1 + 0.7 * float(image_norm(images))
    assert total(DeepInversionObjective(weights, [model], TARGETS), images) == pytest.approx(
        wanted, rel=0.02
    )  # bfloat16


def test_the_terms_of_several_teachers_are_averaged(tiny: Model, images: Tensor) -> None:
    models = [twin(tiny, seed) for seed in range(3)]
    weights = LossWeights(class_weight=1, feature_weight=1, first_multiplier=1, tv_l2=0, tv_l1=0, l2=0)
    wanted = sum(sum(terms(model, images)) for model in models) / 3
    assert total(DeepInversionObjective(weights, models, TARGETS), images) == pytest.approx(wanted, rel=0.02)
    soft, figures = DeepInversionObjective(weights, models, TARGETS).evaluate(images)
    mean = torch.stack([torch.softmax(model(images), 1) for model in models]).mean(0)
    assert soft is not None
    torch.testing.assert_close(soft, mean, rtol=0, atol=0.02)
    assert set(figures) == {"statistics_distance"}


def test_the_rival_competes(tiny: Model, images: Tensor) -> None:
    model, competitor = twin(tiny, 0), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    weights = LossWeights(class_weight=0, feature_weight=0, first_multiplier=1, tv_l2=0, tv_l1=0, l2=0, competition=0.5)
    scores = model(images)
    assert isinstance(scores, Tensor)
    wanted = 0.5 * float(competition(competitor, scores))
    assert total(DeepInversionObjective(weights, [model], TARGETS, lambda _: competitor), images) == pytest.approx(
        wanted, abs=0.01
    )


def test_mixed_images_have_mixed_targets(tiny: Model) -> None:
    # With two images alike nothing changes but the targets, and the class loss is linear in those.
    model = twin(tiny, 0)
    images = torch.ones(2, 3, 8, 8)
    targets = torch.eye(4)[[0, 3]]
    weights = LossWeights(class_weight=1, feature_weight=0, first_multiplier=1, tv_l2=0, tv_l1=0, l2=0, mixing=1)
    scores = model(images)
    assert isinstance(scores, Tensor)
    entropies = -torch.log_softmax(scores, 1)[0, [0, 3]]
    # Both images lose to the other what they gain from it, or nothing: the mean stays the same.
    assert total(DeepInversionObjective(weights, [model], targets), images) == pytest.approx(
        float(entropies.mean()), rel=0.02
    )
