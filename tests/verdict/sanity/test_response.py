"""The first layer's response and the information of answers, against numbers worked out by hand."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from dfq_deploy.graph.loading import load
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.sanity.response import information, response_to_bias

Model = Callable[..., onnx.ModelProto]

EYE = np.eye(3, dtype=np.float32)


def rows(*values: tuple[float, ...]) -> Samples:
    return Samples(np.array(values, np.float32))


@pytest.fixture
def scores(model_of: Model) -> onnx.ModelProto:
    return model_of("float[n,3] x", "float[n,3] y", "y = MatMul(x, w)", {"w": EYE})


def test_the_response_is_in_units_of_the_bias(model_of: Model) -> None:
    # Outputs 2 x and -x: deviations 2 and 1 of inputs 0 and 2; the third channel does not respond.
    weights = {"w": np.array([[2.0, -1.0, 0.0]], np.float32), "b": np.array([3.0, 4.0, 99.0], np.float32)}
    for nodes in ("y = Gemm(x, w, b)", "m = MatMul(x, w) y = Add(m, b)"):
        model = load(model_of("float[n,1] x", "float[n,3] y", nodes, weights))
        assert response_to_bias(model, rows((0,), (2,))) == pytest.approx(np.sqrt((4 + 1) / (9 + 16)))
        assert response_to_bias(model, rows((0,), (200,))) == pytest.approx(100 * np.sqrt((4 + 1) / (9 + 16)))


def test_no_bias_no_response(scores: onnx.ModelProto) -> None:
    assert response_to_bias(load(scores), rows((1, 2, 3))) is None


@pytest.mark.parametrize(
    ("weight", "bias", "known"), [(0, 1, False), (1, 1e-6, False), (1, 1e-3, True), (1e-3, 1, True)]
)
def test_a_bias_that_never_learned_tells_nothing(model_of: Model, weight: float, bias: float, known: bool) -> None:
    weights = {"w": np.full((1, 3), weight, np.float32), "b": np.full(3, bias, np.float32)}
    model = load(model_of("float[n,1] x", "float[n,3] y", "y = Gemm(x, w, b)", weights))
    assert (response_to_bias(model, rows((0,), (2,))) is not None) is known


def test_sure_and_various_answers_hold_the_most_information(scores: onnx.ModelProto) -> None:
    model = load(scores)
    sure = rows((99, 0, 0), (0, 99, 0), (0, 0, 99))
    assert information(model, sure) == pytest.approx(np.log(3), abs=1e-6)
    assert information(model, rows((99, 0, 0), (99, 0, 0))) == pytest.approx(0, abs=1e-6)
    assert information(model, rows((0, 0, 0), (1, 1, 1))) == pytest.approx(0, abs=1e-6)
    # (2/3, 1/6, 1/6) and (1/6, 2/3, 1/6): the mean answer is (5/12, 5/12, 1/6).
    half = np.log(4.0)
    mean = -(2 * 5 / 12 * np.log(5 / 12) + np.log(1 / 6) / 6)
    each = -(2 / 3 * np.log(2 / 3) + 2 * np.log(1 / 6) / 6)
    assert information(model, rows((half, 0, 0), (0, half, 0))) == pytest.approx(mean - each, abs=1e-6)


@pytest.mark.parametrize(("output", "expected"), [("y", np.log(3) - 2 * np.log(2) / 3), ("other", np.log(3))])
def test_a_runner_answers_where_it_gives_the_logits(
    scores: onnx.ModelProto, model_of: Model, output: str, expected: float
) -> None:
    # It has one output for the second and the third class, so that what answered can be told.
    weights = {"w": np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], np.float32).T.copy()}
    blind = model_of("float[n,3] x", f"float[n,3] {output}", f"{output} = MatMul(x, w)", weights)
    sure = rows((99, 0, 0), (0, 99, 0), (0, 0, 99))
    found = information(load(scores), sure, Runner(blind.SerializeToString()))
    assert found == pytest.approx(expected, abs=1e-6)


def test_no_scores_no_information(model_of: Model) -> None:
    model = model_of("float[n,1,4,4] x", "float[n,1,4,4] y", "y = Relu(x)", {})
    assert information(load(model), Samples(np.ones((2, 1, 4, 4), np.float32))) is None
