"""What a graph does to its features before the first layer tells their mean and deviation."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.feature_statistics import feature_statistics
from dfq_deploy.synthesis.session import synthesize_from
from tests.conftest import ModelOf

MEAN = np.array([880.0, -3.0, 0.02, 12.0], np.float32)
STD = np.array([350.0, 0.5, 0.003, 4.0], np.float32)
WEIGHT = np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32)
NUMBERS = {
    "w": WEIGHT,
    "m": MEAN,
    "s": STD,
    "inverse": 1 / STD,
    "offset": -MEAN / STD,
    "gain": np.full(4, 0.5, np.float32),
    "bias": np.full(4, 2.0, np.float32),
    "var": np.square(STD),
    "byte": np.array([255.0], np.float32),
    "holes": np.array([1.0, 0.0, 1.0, 1.0], np.float32),
}


def model_with(model_of: ModelOf, nodes: str, size: str = "4") -> onnx.ModelProto:
    used = {name: array for name, array in NUMBERS.items() if name in nodes.replace("(", " ").replace(")", " ").split()}
    used |= {name: array for name, array in NUMBERS.items() if f"{name})" in nodes or f", {name}," in nodes}
    return model_of(f"float[n,{size}] x", "float[n,3] y", nodes, used)


@pytest.mark.parametrize(
    "nodes",
    [
        "a = Sub(x, m) b = Div(a, s) y = MatMul(b, w)",
        "a = Mul(x, inverse) b = Add(a, offset) y = MatMul(b, w)",
        "i = Identity(x) a = Sub(i, m) b = Mul(a, inverse) y = MatMul(b, w)",
        "b = BatchNormalization <epsilon = 0.0> (x, gain, bias, m, var) y = MatMul(b, w)",
    ],
)
def test_standardized_features_have_their_own_mean_and_deviation(model_of: ModelOf, nodes: str) -> None:
    found = feature_statistics(load(model_with(model_of, nodes)))
    assert found is not None
    np.testing.assert_allclose(found.mean, MEAN, rtol=1e-4)
    np.testing.assert_allclose(found.std, STD, rtol=1e-4)


def test_statistics_in_front_of_a_batch_normalization_are_put_back(model_of: ModelOf) -> None:
    nodes = "a = Div(x, byte) b = BatchNormalization <epsilon = 0.0> (a, gain, bias, m, var) y = MatMul(b, w)"
    found = feature_statistics(load(model_with(model_of, nodes)))
    assert found is not None
    np.testing.assert_allclose(found.mean, 255 * MEAN, rtol=1e-4)
    np.testing.assert_allclose(found.std, 255 * STD, rtol=1e-4)


@pytest.mark.parametrize(
    "nodes",
    [
        "y = MatMul(x, w)",
        "a = Div(x, byte) y = MatMul(a, w)",
        "a = MatMul(x, w) y = Relu(a)",
        "a = Add(x, offset) y = MatMul(a, w)",  # positions, which are added to embeddings
        "a = Div(x, byte) b = Add(a, offset) y = MatMul(b, w)",
    ],
)
def test_others_tell_nothing(model_of: ModelOf, nodes: str) -> None:
    assert feature_statistics(load(model_with(model_of, nodes))) is None


def test_a_time_that_frequencies_widen_is_no_feature(model_of: ModelOf) -> None:
    """Its samples became as wide as the frequencies, and no model takes those."""
    model = load(model_with(model_of, "a = Mul(x, inverse) b = Add(a, offset) y = MatMul(b, w)", size="1"))
    assert feature_statistics(model) is None
    samples = synthesize_from(model, "procedural", (), count=3, preprocess=None, seed=0, device="cpu")
    assert samples.images.shape == (3, 1)


@pytest.mark.parametrize("operator", ["Mul", "Div"])
def test_a_zero_among_the_factors_tells_nothing(model_of: ModelOf, operator: str) -> None:
    """NumPy warned of a division by zero."""
    found = feature_statistics(
        load(model_with(model_of, f"a = Sub(x, m) b = {operator}(a, holes) y = MatMul(b, w)")),
    )
    assert found is None or np.isfinite(found.std).all()


def test_channels_of_a_series_have_their_own(model_of: ModelOf) -> None:
    kernel = np.random.default_rng(0).normal(0, 1, (2, 4, 3)).astype(np.float32)
    numbers = {"k": kernel, **{name: NUMBERS[name] for name in ("gain", "bias", "m", "var")}}
    nodes = "b = BatchNormalization <epsilon = 0.0> (x, gain, bias, m, var) y = Conv(b, k)"
    found = feature_statistics(load(model_of("float[n,4,64] x", "float[n,2,62] y", nodes, numbers)))
    assert found is not None
    assert found.mean.shape == (4, 1)
    np.testing.assert_allclose(found.mean[:, 0], MEAN, rtol=1e-5)


def test_a_scaler_of_scikit_learn_tells(tmp_path: object) -> None:
    scaler = helper.make_node(
        "Scaler", ["x"], ["b"], domain="ai.onnx.ml", offset=MEAN.tolist(), scale=(1 / STD).tolist()
    )
    product = helper.make_node("MatMul", ["b", "w"], ["y"])
    graph = helper.make_graph(
        [scaler, product],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(WEIGHT, "w")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    found = feature_statistics(load(helper.make_model(graph, opset_imports=opsets, ir_version=8)))
    assert found is not None
    np.testing.assert_allclose(found.mean, MEAN, rtol=1e-5)


def test_drawn_features_have_them(model_of: ModelOf) -> None:
    """Features in units of their own were drawn with mean 0 and deviation 1, and real ones were clipped."""
    model = load(model_with(model_of, "a = Sub(x, m) b = Div(a, s) y = MatMul(b, w)"))
    samples = synthesize_from(model, "procedural", (), count=256, preprocess=None, seed=0, device="cpu")
    standardized = (samples.images - MEAN) / STD
    assert np.abs(standardized.mean()) < 0.2
    assert 0.5 < standardized.std() < 2
    assert any("the graph standardizes its input" in note for note in samples.notes)
