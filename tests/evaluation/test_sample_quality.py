"""The figures of a set of samples, against numbers worked out by hand and against torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from dfq_deploy.errors import ModelError, SamplesError
from dfq_deploy.evaluation.sample_quality import quality, with_quality
from dfq_deploy.graph.loading import load
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.describe import caption, readable
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, relative_distance
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]

IDENTITY = np.eye(3, dtype=np.float32)


@pytest.fixture
def linear(model_of: Model) -> Callable[..., onnx.ModelProto]:
    """Scores (n, 3) = relu(x) * weight, with a softmax behind them or without."""

    def build(weight: np.ndarray = IDENTITY, tail: str = "y = MatMul(r, w)") -> onnx.ModelProto:
        return model_of("float[n,3] x", f"float[n,{weight.shape[1]}] y", f"r = Relu(x) {tail}", {"w": weight})

    return build


def rows(*values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)


def test_the_distance_is_that_of_the_twin(digits_bn: Path) -> None:
    images = np.random.default_rng(0).normal(0.3, 1, (40, 1, 16, 16)).astype(np.float32)
    model = load(digits_bn)
    twin = Twin.from_model(model)
    expected = relative_distance(FeatureStatistics(twin).run(torch.from_numpy(images))[1])
    assert quality(Samples(images), model)["statistics_distance"] == pytest.approx(expected, rel=1e-4)


def test_slices_make_one_set(digits_bn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).normal(0.3, 1, (23, 1, 16, 16)).astype(np.float32)
    whole = quality(Samples(images), load(digits_bn))
    monkeypatch.setattr("dfq_deploy.evaluation.sample_quality.SLICE_BYTES", 5 * images[0].nbytes)
    assert quality(Samples(images), load(digits_bn)) == pytest.approx(whole, rel=1e-5)


def test_classes_are_counted(linear: Model) -> None:
    # Softmax of (ln 2, 0, 0) is (1/2, 1/4, 1/4); of (ln 6, 0, 0) it is (3/4, 1/8, 1/8).
    images = rows((np.log(2), 0, 0), (np.log(6), 0, 0), (0, 0, np.log(2)), (np.log(2), 0, 0))
    found = quality(Samples(images, np.array([0, 1, 2, 2])), load(linear()))
    assert found["classes_seen"] == 2
    assert found["class_coverage"] == pytest.approx(2 / 3)
    assert (found["class_share_smallest"], found["class_share_largest"]) == (0, 0.75)
    assert found["confidence"] == pytest.approx((0.5 + 0.75 + 0.5 + 0.5) / 4)
    assert found["label_hit"] == 0.5
    assert "statistics_distance" not in found
    assert "verifier_agreement" not in found


def test_probabilities_are_taken_as_they_are(linear: Model) -> None:
    softmax = load(linear(tail="m = MatMul(r, w) y = Softmax(m)"))
    assert quality(Samples(rows((np.log(2), 0, 0))), softmax)["confidence"] == pytest.approx(0.5)


def test_diversity_is_the_distance_in_norms(linear: Model) -> None:
    # Features (3, 4, 0), (0, 0, 0), (0, 0, 5): distances 5, sqrt(50) and 5, norms 5, 0 and 5.
    images = rows((3, 4, -7), (-1, 0, 0), (0, 0, 5))
    found = quality(Samples(images), load(linear()))
    assert found["diversity"] == pytest.approx((10 + np.sqrt(50)) / 3 / (10 / 3))
    same = quality(Samples(np.repeat(images[:1], 4, axis=0)), load(linear()))
    assert same["diversity"] == pytest.approx(0, abs=1e-6)


def test_a_verifier_agrees_or_not(linear: Model) -> None:
    swapped = Runner(linear(IDENTITY[[1, 0, 2]]).SerializeToString(), name="second.onnx")
    images = rows((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2))
    soft = rows((0, 1, 0), (0.1, 0.9, 0), (0, 0, 1), (0, 1, 0))
    found = quality(Samples(images, soft), load(linear()), swapped)
    assert (found["verifier_agreement"], found["verifier_hit"], found["label_hit"]) == (0.5, 0.5, 0.5)


def test_a_verifier_of_other_classes_is_refused(linear: Model) -> None:
    two = Runner(linear(IDENTITY[:, :2]).SerializeToString(), name="two.onnx")
    words = r"^two\.onnx: it gives 2 scores for each sample, the model 3; a verifier needs the same classes$"
    with pytest.raises(ModelError, match=words):
        with_quality(Samples(rows((1, 0, 0))), load(linear()), verifier=two)


def test_a_verifier_of_other_inputs_is_refused(linear: Model, tiny: Model) -> None:
    with pytest.raises(
        SamplesError, match=r"^second: takes samples of shape \(3, 8, 8\); these have \(3,\); give samples that fit"
    ):
        with_quality(
            Samples(rows((1, 0, 0))), load(linear()), verifier=Runner(tiny().SerializeToString(), name="second")
        )


def test_a_teacher_serves_where_the_model_has_lost_its_statistics(digits_bn: Path, digits_folded: Path) -> None:
    samples = Samples(np.random.default_rng(0).normal(0.3, 1, (9, 1, 16, 16)).astype(np.float32), figures={"own": 1.0})
    with_bn, folded = load(digits_bn), load(digits_folded)
    alone = with_quality(samples, folded).figures
    assert "statistics_distance" not in alone
    taught = with_quality(samples, folded, [with_bn]).figures
    assert taught == {"own": 1.0, **quality(samples, with_bn)}
    assert alone["confidence"] == pytest.approx(taught["confidence"], rel=1e-3)


def test_what_cannot_be_assessed_is_said(linear: Model) -> None:
    broken = linear(np.full((3, 3), 3e38, np.float32))
    found = with_quality(Samples(rows((9, 9, 9))), load(broken))
    assert found.figures == {}
    (note,) = found.notes
    assert note.startswith("the samples could not be assessed: the model: output 'y' is NaN or infinite")


FIGURES = {
    "statistics_distance": 0.174,
    "classes_seen": 9.0,
    "class_coverage": 0.9,
    "class_share_smallest": 0.0,
    "class_share_largest": 0.328125,
    "confidence": 0.98663,
    "diversity": 1.0206,
    "label_hit": 0.5,
    "verifier_agreement": 0.98,
    "verifier_hit": 0.25,
    "target_hit": 0.75,
}


def test_figures_in_words() -> None:
    assert readable(FIGURES) == [
        ("statistics", "0.174 from the training data's (0 is a match)"),
        ("classes", "9 of 10 appear, each in 0 to 32.8 %"),
        ("confidence", "0.987, the mean probability of the class answered"),
        ("diversity", "1.02, the mean distance of two in features, in norms"),
        ("labels", "50 % get the class of their label"),
        ("verifier", "98 % get the same class from the second network, 25 % that of their label"),
        ("target hit", "0.75"),
    ]
    assert readable({}) == []
    assert readable({"loss": 2.0}) == [("loss", "2")]


def test_figures_on_one_line() -> None:
    assert caption(FIGURES) == (
        "statistics 0.174 off, 9 of 10 classes, confidence 0.987, diversity 1.02, verifier agrees on 98 %"
    )
    assert caption({"target_hit": 1.0}) == ""


def test_features_of_one_number_for_each_sample(model_of: Model) -> None:
    nodes = "m = MatMul(x, w) r = ReduceSum <keepdims = 0> (m, axis) y = MatMul(r, v)"
    weights = {"w": IDENTITY, "v": np.ones((4, 2), np.float32), "axis": np.array([1])}
    model = load(model_of("float[4,3] x", "float[2] y", nodes, weights))
    found = quality(Samples(np.arange(12, dtype=np.float32).reshape(4, 3)), model)
    assert found["diversity"] > 0
