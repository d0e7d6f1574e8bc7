"""Which output holds class scores, and what a caller may say of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import calibrate, evaluate
from dfq_deploy.errors import ModelError, OptionError, SamplesError
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.query import score_count
from dfq_deploy.graph.task import score_output, state_task, task_hint
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples

ModelOf = Callable[..., onnx.ModelProto]

WEIGHTS = {
    name: np.random.default_rng(i).normal(size=shape).astype(np.float32)
    for i, (name, shape) in enumerate({"k": (6, 3, 3, 3), "w": (6, 5), "v": (6, 5)}.items())
}

POOLED = "c = Conv(x, k) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p)"


def rows(model_of: ModelOf, nodes: str, outputs: str) -> onnx.ModelProto:
    return model_of("float[n,3,8,8] x", outputs, f"{POOLED} {nodes}", WEIGHTS)


@pytest.mark.parametrize(
    ("nodes", "outputs", "found"),
    [
        ("output = MatMul(f, w)", "float[n,5] output", "output"),
        ("y495 = Gemm(f, w)", "float[n,5] y495", "y495"),
        ("m = MatMul(f, w) y = Softmax(m)", "float[n,5] y", "y"),
        ("m = MatMul(f, w) y = Sigmoid(m)", "float[n,5] y", "y"),
        ("landmarks = MatMul(f, w)", "float[n,5] landmarks", None),
        ("bbox_pred = MatMul(f, w)", "float[n,5] bbox_pred", None),
        ("image_embeds = MatMul(f, w)", "float[n,5] image_embeds", None),
        ("age_height = MatMul(f, w)", "float[n,5] age_height", None),
        ("yawPitchRoll = MatMul(f, w)", "float[n,5] yawPitchRoll", None),
        ("y = Identity(f)", "float[n,6] y", None),
        ("m = MatMul(f, w) y = Tanh(m)", "float[n,5] y", None),
        ("m = MatMul(f, w) y = LpNormalization(m)", "float[n,5] y", None),
        ("m = MatMul(f, w) y = ArgMax<axis = 1>(m)", "int64[n,1] y", None),
        ("m = MatMul(f, w) y = Cast<to = 7>(m)", "int64[n,5] y", None),
        ("a = MatMul(f, w) b = MatMul(f, v)", "float[n,5] a, float[n,5] b", None),
        ("a = MatMul(f, w) logits = MatMul(f, v)", "float[n,5] a, float[n,5] logits", "logits"),
        ("boxes = MatMul(f, w) b = MatMul(f, v)", "float[n,5] boxes, float[n,5] b", "b"),
        ("y = MatMul(f, w) copy = Identity(x)", "float[n,5] y, float[n,3,8,8] copy", "y"),
    ],
)
def test_class_scores_only_where_there_is_reason(
    model_of: ModelOf, nodes: str, outputs: str, found: str | None
) -> None:
    output = score_output(load(rows(model_of, nodes, outputs)))
    assert (None if output is None else output.name) == found


@pytest.mark.parametrize(
    ("biases", "classes"), [("face", None), ("same", 12), ("both", 12), ("few", 5)], ids=["face", "same", "both", "few"]
)
@pytest.mark.parametrize(
    "nodes", ["y = Gemm(f, w, b)", "m = MatMul(f, w) y = Add(b, m)", "m = Gemm(f, w, b) y = Flatten(m)"]
)
def test_biases_that_are_all_above_0_are_no_class_scores(
    model_of: ModelOf, nodes: str, biases: str, classes: int | None
) -> None:
    """The mean of coordinates is; cross-entropy leaves the sum of the biases at 0."""
    rng = np.random.default_rng(0)
    drawn = {"face": rng.uniform(0.1, 0.9, 12), "same": np.ones(12), "both": rng.normal(0, 1, 12), "few": rng.random(5)}
    width = len(drawn[biases])
    weights = {"k": WEIGHTS["k"], "w": rng.normal(size=(6, width)).astype(np.float32), "b": drawn[biases].astype("f")}
    model = load(model_of("float[n,3,8,8] x", f"float[n,{width}] y", f"{POOLED} {nodes}", weights))
    assert score_count(model) == classes
    assert score_count(model, labelled=True) == width
    named = f"{POOLED} {nodes}".replace("y =", "logits =")
    assert score_count(load(model_of("float[n,3,8,8] x", f"float[n,{width}] logits", named, weights))) == width


@pytest.mark.parametrize(("names", "classes"), [("n,t", None), ("n,classes", 12), ("n,n", 12), ("n,12", 12)])
def test_a_score_for_each_token_is_none_of_a_class(model_of: ModelOf, names: str, classes: int | None) -> None:
    """As a discriminator has them; 12 is the length that is chosen, or stated, to measure with."""
    weights = {"w": np.ones((4, 1), np.float32), "last": np.array([2])}
    nodes = "m = MatMul(x, w) logits = Squeeze(m, last)"
    model = load(model_of("float[n,t,4] x", f"float[{names}] logits", nodes, weights), input_shapes={"x": (1, 12, 4)})
    assert score_count(model) == classes


def test_the_scores_of_a_detector_s_boxes_are_none(model_of: ModelOf) -> None:
    nodes = "scores = MatMul(f, w) u = Unsqueeze(scores, one) boxes = Concat<axis = 2>(u, u, u, u)"
    model = model_of(
        "float[n,3,8,8] x",
        "float[n,5,4] boxes, float[n,5] scores",
        f"{POOLED} {nodes.replace('one', 'two')}",
        {**WEIGHTS, "two": np.array([2])},
    )
    assert score_output(load(model)) is None


def test_labels_are_a_reason_where_no_name_says_otherwise(model_of: ModelOf) -> None:
    tanh = load(rows(model_of, "m = MatMul(f, w) y = Tanh(m)", "float[n,5] y"))
    assert (score_count(tanh), score_count(tanh, labelled=True)) == (None, 5)
    marks = load(rows(model_of, "landmarks = MatMul(f, w)", "float[n,5] landmarks"))
    assert score_count(marks, labelled=True) is None


def test_a_stated_task_decides(model_of: ModelOf) -> None:
    model = load(rows(model_of, "landmarks = MatMul(f, w)", "float[n,5] landmarks"))
    state_task(model, "classify")
    assert score_count(model) == 5
    state_task(model, "regress")
    assert score_count(model, labelled=True) is None
    assert "--task is regress; say --task classify" in task_hint(model)
    with pytest.raises(OptionError, match=r"^--task guess: no such task; choose one of: classify, detect"):
        state_task(model, "guess")
    with pytest.raises(ModelError, match=r"^--task classify: no output is a row of float scores"):
        state_task(load(rows(model_of, "y = Identity(c)", "float[n,6,6,6] y")), "classify")


def test_a_task_is_kept_in_the_file_and_followed(model_of: ModelOf, tmp_path: Path) -> None:
    proto = rows(model_of, "y = MatMul(f, w)", "float[n,5] y")
    path = tmp_path / "float.onnx"
    onnx.save(proto, path)
    plain = calibrate(proto, synth="procedural", count=16)
    assert "classes_seen" in plain.samples.figures
    found = calibrate(proto, synth="procedural", count=16, task="embed", output=tmp_path / "out")
    assert "classes_seen" not in found.samples.figures
    assert found.model_path is not None
    assert Runner(found.model_path).stated_task == "embed"
    images = found.samples.images
    assert evaluate(path, found.model_path, Samples(images)).comparison.scores is None
    assert evaluate(path, found.model_path, Samples(images), task="classify").comparison.scores is not None


def test_labels_of_a_model_that_is_no_classifier_are_refused(model_of: ModelOf, tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(rows(model_of, "landmarks = MatMul(f, w)", "float[n,5] landmarks"), path)
    images = np.zeros((4, 3, 8, 8), np.float32)
    with pytest.raises(SamplesError, match=r"no output of .* is known to hold class scores; say --task classify"):
        evaluate(path, path, Samples(images, np.zeros(4, np.int64)))
    np.savez(tmp_path / "set.npz", images=images, labels=np.zeros(4, np.int64))
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(SamplesError, match=r"^--labels .*names.txt: the model is no classifier: none of its outputs"):
        evaluate(path, path, tmp_path / "set.npz", labels=tmp_path / "names.txt")
    found = evaluate(path, path, tmp_path / "set.npz")
    assert any("are not used: the model is no classifier" in said for said in found.warnings)
