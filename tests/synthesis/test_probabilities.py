"""Networks whose outputs are probabilities, and whose inputs are pixels: what most files from Keras are."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dfq_deploy import Samples, finetune, synthesize
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.evaluation.sample_quality import quality
from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.verdict.sanity.sample_figures import figure_findings
from examples.digits.data import PREPROCESS


def ending_in(path: Path, activation: str) -> onnx.ModelProto:
    """The network, with an activation behind its scores."""
    model = onnx.load(path)
    scores = model.graph.output[0].name
    model.graph.node.append(helper.make_node(activation, [scores], ["probabilities"], "last"))
    model.graph.output[0].name = "probabilities"
    return model


def with_weights_scaled(model: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """The network, with its last weights scaled."""
    last = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm").input[1]
    weight = next(entry for entry in model.graph.initializer if entry.name == last)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), last))
    return model


def taking_pixels(path: Path) -> onnx.ModelProto:
    """The network, which divides pixels from 0 to 255 and normalizes them itself."""
    model = onnx.load(path)
    (mean,), (std,) = PREPROCESS.mean, PREPROCESS.std
    first = model.graph.input[0].name
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == first:
                node.input[index] = "normalized"
    model.graph.node.insert(0, helper.make_node("Mul", ["shifted", "scale"], ["normalized"], "scaling"))
    model.graph.node.insert(0, helper.make_node("Sub", [first, "mean"], ["shifted"], "shifting"))
    for name, value in (("mean", 255 * mean), ("scale", 1 / (255 * std))):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    return model


@pytest.mark.parametrize("activation", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_samples_are_those_of_the_logits(digits_bn: Path, activation: str) -> None:
    method = DeepInversion(iterations=8)
    expected = synthesize(digits_bn, synth=method, count=8, preprocess=PREPROCESS)
    found = synthesize(ending_in(digits_bn, activation), synth=method, count=8, preprocess=PREPROCESS)
    np.testing.assert_array_equal(found.images, expected.images)
    assert found.figures == pytest.approx(expected.figures)


@pytest.mark.parametrize("activation", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_files_are_compared_as_those_of_the_logits(digits_bn: Path, activation: str) -> None:
    images = 0.5 * np.random.default_rng(0).standard_normal((64, 1, 16, 16), np.float32)
    plain = [with_weights_scaled(onnx.load(digits_bn), factor).SerializeToString() for factor in (1, 0.9)]
    ending = [with_weights_scaled(ending_in(digits_bn, activation), factor).SerializeToString() for factor in (1, 0.9)]
    expected, found = (compare(first, other, Samples(images)).scores for first, other in (plain, ending))
    assert expected is not None
    assert found is not None
    assert found.agreement == expected.agreement
    for figure in ("confidence", "divergence", "variation"):
        assert getattr(found, figure) == pytest.approx(getattr(expected, figure), rel=0.01)


def test_the_student_learns_from_logits(digits_bn: Path, tmp_path: Path) -> None:
    samples = synthesize(digits_bn, synth="noise", count=16, preprocess=PREPROCESS)
    for name, model in (("plain", onnx.load(digits_bn)), ("softmax", ending_in(digits_bn, "Softmax"))):
        output = tmp_path / name
        finetune(model, data=samples, preprocess=PREPROCESS, refine="none", epochs=1, output=output)
    plain, softmax = (onnx.load(tmp_path / name / "model.qdq.onnx") for name in ("plain", "softmax"))
    weights = [
        {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer if entry.data_type == 3}
        for model in (plain, softmax)
    ]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name])


def test_steps_are_in_units_of_the_pixels(digits_bn: Path) -> None:
    method = DeepInversion(iterations=50)
    model = taking_pixels(digits_bn)
    found = synthesize(model, synth=method, count=20)
    assert found.figures["target_hit"] > 0.5
    assert found.images.min() >= 0
    assert 200 < found.images.max() <= 255
    (note,) = found.notes
    assert note.startswith("no --preprocess is given and the model seems to take pixels from 0 to 255 (its graph ")
    given = synthesize(model, synth=method, count=20, preprocess="raw")
    np.testing.assert_array_equal(given.images, found.images)
    assert given.notes == ()


def test_a_set_that_misses_its_targets_is_said_to(digits_bn: Path) -> None:
    samples = synthesize(digits_bn, synth=DeepInversion(iterations=1), count=20, preprocess=PREPROCESS)
    assert samples.figures["target_hit"] < 0.5
    (note,) = samples.notes
    assert "% of the samples get the class that they were made for" in note
    (finding,) = [one for one in figure_findings(samples.figures, 20) if one.code == "samples-targets"]
    assert finding.level == "CHECK"
    assert [one.level for one in figure_findings({"target_hit": 0.9}, 20)] == ["OK"]


def test_confidence_is_that_of_the_logits(digits_bn: Path) -> None:
    samples = synthesize(digits_bn, synth="procedural", count=16, preprocess=PREPROCESS)
    expected = quality(samples, load(digits_bn))
    assert quality(samples, load(ending_in(digits_bn, "Sigmoid"))) == pytest.approx(expected)
