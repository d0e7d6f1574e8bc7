"""Pictures that descend on class scores: what they keep, what they reach, and whom they suit."""

import numpy as np
import pytest
import torch

from dfq_deploy import synthesize
from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.inputs import sample_shape
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.methods.anchored import Anchored, AnchoredObjective, measured
from dfq_deploy.synthesis.methods.procedural import Procedural
from dfq_deploy.twin import Twin
from tests.conftest import CHECKOUT, ModelOf

DIGITS = CHECKOUT / "examples/digits/digits.onnx"
SHAPE = sample_shape(load(DIGITS))


@pytest.fixture(scope="module")
def teacher() -> Twin:
    return Twin.from_model(load(DIGITS))


def test_pictures_reach_their_classes_and_stay_near_where_they_started(teacher: Twin) -> None:
    request = SynthesisRequest(20, SHAPE, 10, seed=3)
    method = Anchored(iterations=40, learning_rate=0.1)

    samples = method.synthesize([teacher], request)

    start = Procedural().synthesize((), request).images
    assert samples.images.shape == start.shape
    assert samples.figures["target_hit"] > 0.8
    correlation = np.corrcoef(samples.images.ravel(), start.ravel())[0, 1]
    assert 0.8 < correlation < 0.9999
    assert samples.labels is not None
    assert np.bincount(samples.labels.argmax(1), minlength=10).max() <= 5


def test_the_anchor_keeps_the_first_layers(teacher: Twin) -> None:
    request = SynthesisRequest(20, SHAPE, 10, seed=3)

    def distance(weight: float) -> float:
        method = Anchored(iterations=40, learning_rate=0.3, anchor=0.5, anchor_weight=weight)
        return method.synthesize([teacher], request).figures["anchor_distance"]

    assert distance(100.0) < distance(0.0)


def test_moments_are_those_of_all_pictures(teacher: Twin) -> None:
    pictures = torch.randn(11, *SHAPE, generator=torch.Generator().manual_seed(0))
    name = next(step.outputs[0] for step in teacher.steps if step.op_type == "Conv")

    mean, variance = measured(teacher, [name], pictures, 4)[name]

    values = teacher.run({teacher.input_names[0]: pictures}, keep=[name])[name]
    assert mean.tolist() == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert variance.tolist() == pytest.approx(values.var((0, 2, 3), correction=0).tolist(), rel=1e-4)


def test_the_loss_is_the_class_loss_alone_where_nothing_is_anchored(teacher: Twin) -> None:
    images = torch.zeros(4, *SHAPE)
    targets = torch.tensor([0, 1, 2, 3])
    objective = AnchoredObjective(Anchored(tv_l2=0.0), teacher, {}, targets)

    loss = objective.loss(images, torch.Generator())

    scores = teacher(images).flatten(1)
    expected = torch.nn.functional.cross_entropy(scores, targets)
    assert float(loss.total) == pytest.approx(float(expected), rel=0.02)
    assert set(loss.figures()) == {"class"}


def test_the_same_seed_gives_the_same_pictures() -> None:
    one, two, other = (
        synthesize(DIGITS, synth=Anchored(iterations=3), count=8, seed=seed).images for seed in (1, 1, 2)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_steps_are_in_units_of_the_pixel_range() -> None:
    def moved(preprocess: str) -> float:
        method, drawn = Anchored(iterations=3), Procedural()
        images, start = (
            synthesize(DIGITS, synth=one, count=8, preprocess=preprocess).images for one in (method, drawn)
        )
        return float(np.abs(images - start).mean() / np.ptp(start))

    assert moved("raw") == pytest.approx(moved("minus-one-one"), rel=0.8)
    assert moved("raw") > 0.001


def test_models_that_do_not_classify_images_are_refused(model_of: ModelOf) -> None:
    model = model_of("float[n,4] x", "float[n,3] y", "y = MatMul(x, w)", {"w": np.ones((4, 3), np.float32)})
    with pytest.raises(ModelError, match="use --synth procedural"):
        synthesize(model, synth="anchored", count=4)


@pytest.mark.parametrize(
    ("options", "words"), [({"anchor": 1.5}, "between 0 and 1"), ({"pictures": "deepinversion"}, "BatchNormalization")]
)
def test_options_are_checked(options: dict[str, float | str], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Anchored(**options)  # type: ignore[arg-type]
