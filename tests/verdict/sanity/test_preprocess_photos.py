"""The answers of a classifier of small color pictures to photographs tell a preprocess that does not fit."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.verdict.sanity.findings import sanity_findings
from dfq_deploy.verdict.sanity.preprocess_answers import answers_finding
from dfq_deploy.verdict.sanity.preprocess_photos import photographs_finding
from tests.conftest import ModelOf

IMAGENET = PREPROCESSES["imagenet"]
FORGOTTEN = Preprocess(IMAGENET.mean, (1.0, 1.0, 1.0))
"""The std was left out."""


def _classifier(
    model_of: ModelOf, *, gain: float = 2.0, size: int = 32, channels: int = 3, classes: int = 8
) -> ir.Model:
    """Classes by the mean color of the four quarters of the input, which are sure of standardized pictures."""
    rng = np.random.default_rng(0)
    weights = {
        "k": np.full((channels, 1, size // 2, size // 2), 4 / size**2, np.float32),
        "w": gain * rng.normal(0, 1, (4 * channels, classes)).astype(np.float32),
    }
    body = (
        f"q = Conv<group={channels}, strides=[{size // 2},{size // 2}]>(x, k)\n"
        "f = Flatten(q)\nl = MatMul(f, w)\nprobabilities = Softmax<axis=-1>(l)"
    )
    return load(model_of(f"float[n,{channels},{size},{size}] x", f"float[n,{classes}] probabilities", body, weights))


def test_the_one_of_the_training_is_ok(model_of: ModelOf) -> None:
    found = photographs_finding(_classifier(model_of), IMAGENET)
    assert found is not None
    assert found.level == "OK"


def test_a_forgotten_std_is_named(model_of: ModelOf) -> None:
    model = _classifier(model_of)
    found = photographs_finding(model, FORGOTTEN)
    assert found is not None
    assert found.level == "BAD"
    assert found.options == "--preprocess imagenet"
    assert "nats of information under --mean 0.485,0.456,0.406 --std 1,1,1" in found.message
    softened = photographs_finding(model, FORGOTTEN, worst="CHECK")
    assert softened == replace(found, level="CHECK")


def test_drawn_samples_do_not_hide_it(model_of: ModelOf) -> None:
    model = _classifier(model_of)
    levels = {}
    for name, preprocess in {"right": IMAGENET, "forgotten": FORGOTTEN}.items():
        samples = synthesize_from(model, "procedural", (), count=32, preprocess=preprocess, seed=0, device="cpu")
        found = {entry.code: entry.level for entry in sanity_findings(model, samples, preprocess)}
        levels[name] = found["preprocess-fit"]
    assert levels == {"right": "OK", "forgotten": "BAD"}


def test_large_pictures_of_many_classes_are_judged_by_how_sure_the_answers_are(model_of: ModelOf) -> None:
    model = _classifier(model_of, size=80, classes=200)
    found = photographs_finding(model, FORGOTTEN)
    assert found is not None
    assert found.level == "CHECK"
    assert found.options == "--preprocess imagenet"
    assert "nats of entropy under --mean 0.485,0.456,0.406 --std 1,1,1, and at least" in found.message
    sharper = Preprocess(IMAGENET.mean, (0.2, 0.2, 0.2))
    assert photographs_finding(model, sharper) is None
    assert photographs_finding(model, PREPROCESSES["zero-one"]) is None  # a known one


@pytest.mark.parametrize("unlike", [{"size": 80}, {"channels": 1}, {"gain": 1e-3}])
def test_others_are_not_judged(model_of: ModelOf, unlike: dict[str, int]) -> None:
    """Large inputs of few classes, grey ones, and networks that recognize nothing on photographs."""
    assert photographs_finding(_classifier(model_of, **unlike), FORGOTTEN) is None


def test_inputs_of_another_scale_are_left_aside(model_of: ModelOf) -> None:
    """Scores that 0 to 255 saturates are sure and various: raw never seems to fit better than what has been given."""
    found = photographs_finding(_classifier(model_of), FORGOTTEN)
    assert found is not None
    assert found.options != "--preprocess raw"


def test_a_network_of_few_classes_is_not_judged(model_of: ModelOf) -> None:
    """A network that finds defects gives photographs one class, under the right preprocess too: it was BAD."""
    assert photographs_finding(_classifier(model_of, classes=5), FORGOTTEN) is not None
    assert photographs_finding(_classifier(model_of, classes=4), FORGOTTEN) is None


def test_dark_images_are_named_where_photographs_are_recognized(model_of: ModelOf) -> None:
    """Pictures of the night were BAD for the right preprocess, and figures of their own were proposed."""
    model, rng = _classifier(model_of, gain=4.0), np.random.default_rng(0)
    quarters = rng.random((48, 2, 2, 3)).repeat(16, axis=1).repeat(16, axis=2)
    night, day = (Samples(IMAGENET.apply((bright * quarters).astype(np.uint8))) for bright in (20, 255))
    found = answers_finding(model, night, IMAGENET, 1)
    assert found is not None
    assert (found.level, found.options) == ("CHECK", "--data FOLDER")
    assert found.message.startswith("the images are unlike those of the training")
    usual = answers_finding(model, day, IMAGENET, 1)
    assert usual is not None
    assert usual.level == "OK"
