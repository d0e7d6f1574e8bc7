"""The logits behind class scores, in the forms that exporters write them in."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.graph.query import score_logits

ModelOf = Callable[..., onnx.ModelProto]

WEIGHTS: dict[str, np.ndarray] = {
    "w": np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32),
    "axes": np.array([1]),
    "tall": np.array([0, 5, 1, 1]),
    "flat": np.array([0, -1]),
}


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ("y = MatMul(x, w)", ("y", "")),
        ("m = MatMul(x, w) y = Softmax(m)", ("m", "Softmax")),
        ("m = MatMul(x, w) y = LogSoftmax<axis = 1>(m)", ("m", "LogSoftmax")),
        ("m = MatMul(x, w) y = Sigmoid(m)", ("m", "Sigmoid")),
        ("m = MatMul(x, w) s = Softmax(m) y = Log(s)", ("m", "LogSoftmax")),
        ("m = MatMul(x, w) e = Exp(m) t = ReduceSum(e, axes) y = Div(e, t)", ("m", "Softmax")),
        ("m = MatMul(x, w) r = Reshape(m, tall) s = Softmax<axis = 1>(r) y = Reshape(s, flat)", ("r", "Softmax")),
        ("m = MatMul(x, w) s = Softmax(m) i = Identity(s) y = Cast<to = 1>(i)", ("m", "Softmax")),
        ("m = MatMul(x, w) s = Sigmoid(m) y = Mul(m, s)", None),
    ],
)
def test_what_the_last_activation_reads(model_of: ModelOf, nodes: str, found: tuple[str, str] | None) -> None:
    logits = score_logits(load(model_of("float[n,6] x", "float[n,5] y", nodes, WEIGHTS)))
    assert (None if logits is None else (logits.value.name, logits.activation)) == found


def test_a_sigmoid_under_a_logarithm_is_no_activation(model_of: ModelOf) -> None:
    nodes = "m = MatMul(x, w) s = Sigmoid(m) logits = Log(s)"
    found = score_logits(load(model_of("float[n,6] x", "float[n,5] logits", nodes, WEIGHTS)))
    assert found is not None
    assert (found.value.name, found.activation) == ("logits", "")


def test_outputs_of_the_same_logits_are_one_classifier(model_of: ModelOf) -> None:
    nodes = "m = MatMul(x, w) p = Softmax(m)"
    for outputs in ("float[n,5] p, float[n,5] m", "float[n,5] m, float[n,5] p"):
        found = score_logits(load(model_of("float[n,6] x", outputs, nodes, WEIGHTS)))
        assert found is not None
        assert found.value.name == "m"
