"""Streaming models: states are fed back, and not drawn."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.synthesis.states import STREAM, state_outputs

NODES = """m = Mul(cache, decay) a = ReduceMean <axes = [1], keepdims = 0> (speech) u = Unsqueeze(a, last)
           cache_out = Add(m, u) y = MatMul(speech, w)"""


def streaming(text: str = NODES) -> onnx.ModelProto:
    """A cache that decays by half, and takes up the mean of each frame."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,40,4] speech, float[1,4,1] cache) => '
        f"(float[1,40,2] y, float[1,4,1] cache_out) <float decay = {{0.5}}, int64[1] last = {{2}}> {{ {text} }}"
    )
    weight = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return proto


def test_a_cache_is_what_the_model_returned_before() -> None:
    model = load(streaming())
    assert state_outputs(model) == {"cache": 1}
    samples = synthesize_from(model, "procedural", (), count=20, preprocess=None, seed=0, device="cpu")
    cache, state = samples.extra["cache"], np.zeros((4, 1), np.float32)
    for index, frame in enumerate(samples.images):
        if index % STREAM == 0:
            state = np.zeros((4, 1), np.float32)
        np.testing.assert_allclose(cache[index], state, atol=1e-5)
        state = 0.5 * state + frame.mean(0)[:, None]
    assert np.abs(cache[1]).max() > 0
    assert any("'cache' is what the model returned" in note for note in samples.notes)
    assert not any("'cache' is drawn" in note for note in samples.notes)


def test_a_range_that_is_stated_counts() -> None:
    ranges = {"cache": (2.0, 3.0)}
    samples = synthesize_from(
        load(streaming()), "procedural", (), count=4, preprocess=None, seed=0, device="cpu", ranges=ranges
    )
    assert samples.extra["cache"].min() >= 2


@pytest.mark.parametrize(("names", "order"), [(("h", "c"), {"h": 1, "c": 2}), (("c", "h"), {"c": 2, "h": 1})])
def test_states_of_one_shape_are_told_apart_by_their_names(names: tuple[str, str], order: dict[str, int]) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g '
        f"(float[5,1,8] x, float[1,1,4] {names[0]}, float[1,1,4] {names[1]}) => "
        "(float[5,1,1,4] y, float[1,1,4] hn, float[1,1,4] cn) "
        "{ y, hn, cn = LSTM <hidden_size = 4> (x, w, r, , , h, c) }"
    )
    shapes = {"w": (1, 16, 8), "r": (1, 16, 4)}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.full(shape, 0.1, np.float32), name) for name, shape in shapes.items()
    )
    assert state_outputs(load(proto)) == order
