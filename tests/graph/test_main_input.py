"""Which of several inputs is the main one, in a graph and in a session alike."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from dfq_deploy import calibrate
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.inputs import main_input_value, state_main_input
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.writing import to_bytes
from dfq_deploy.runtime.runner import Runner

ModelOf = Callable[..., onnx.ModelProto]


def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def streaming(model_of: ModelOf, first: str = "one", second: str = "two") -> onnx.ModelProto:
    """A picture-like cache beside a signal of rank 3; no name tells."""
    return model_of(
        f"float[1,4,3,1] {second}, float[1,6,5] {first}",
        "float[1,6,4] y, float[1,4,3,1] kept",
        f"""a = MatMul({first}, w)
        turned = Transpose<perm = [0, 2, 1]>(a)
        up = Unsqueeze(turned, axes)
        joined = Concat<axis = 2>({second}, up)
        kept = Slice(joined, start, end, along)
        c = Conv<group = 4>(joined, k)
        s = Squeeze(c, axes)
        y = Transpose<perm = [0, 2, 1]>(s)""",
        {
            "w": normal(5, 4),
            "k": normal(4, 1, 4, 1),
            "axes": np.array([3]),
            **{"start": np.array([-3]), "end": np.array([2**31]), "along": np.array([2])},
        },
    )


def test_a_cache_that_is_returned_is_not_the_main_input(model_of: ModelOf) -> None:
    model = load(streaming(model_of))
    assert main_input_value(model).name == "one"
    assert Runner(streaming(model_of).SerializeToString()).main.name == "one"
    assert Runner(to_bytes(model)).main.name == "one"


@pytest.mark.parametrize(
    ("inputs", "main"),
    [
        ("int64[n,8] attention_mask, int64[n,8] input_ids", "input_ids"),
        ("float[n,3,8,8] past, float[n,8] x", "x"),
        ("float[n,3,8,8] hiddenState, float[n,8] speech", "speech"),
        ("float[n,8] im_shape, float[n,3,8,8] image, float[n,8] scale_factor", "image"),
        ("float[n,8] a, float[n,3,8,8] b", "b"),
        ("float[n,8] meta, uint8[n,8,8,3] image", "image"),
        ("uint8[n,1,8,8] a, float[n,3,8,8] b", "b"),
    ],
)
def test_names_and_ranks(model_of: ModelOf, inputs: str, main: str) -> None:
    names = [part.split()[-1] for part in inputs.split(", ")]
    nodes = " ".join(
        f"f{i} = Cast<to = 1>({name}) s{i} = ReduceSum<keepdims = 0>(f{i})" for i, name in enumerate(names)
    )
    total = f"y = Sum({', '.join(f's{i}' for i in range(len(names)))})"
    model = load(model_of(inputs, "float y", f"{nodes} {total}", {}))
    assert main_input_value(model).name == main


def test_what_leads_to_a_weight_is_preferred_to_a_higher_rank(model_of: ModelOf) -> None:
    nodes = "a = MatMul(first, w) m = ReduceMean<axes = [2, 3]>(second) y = Add(a, m)"
    model = load(model_of("float[n,3,4,4] second, float[n,6] first", "float[n,3] y", nodes, {"w": normal(6, 3)}))
    assert main_input_value(model).name == "first"


def test_the_initial_state_of_a_recurrent_layer_is_not_the_main_input(model_of: ModelOf) -> None:
    nodes = "s, h = GRU<hidden_size = 2>(b, w, r, , , a) y = Identity(s)"
    weights = {"w": normal(1, 6, 3), "r": normal(1, 6, 2)}
    model = load(model_of("float[1,n,2] a, float[5,n,3] b", "float[5,1,n,2] y, float[1,n,2] h", nodes, weights))
    assert main_input_value(model).name == "b"


def test_a_stated_input_is_kept_in_the_file(model_of: ModelOf, tmp_path: Path) -> None:
    proto = streaming(model_of)
    result = calibrate(proto, synth="procedural", count=8, main_input="two", output=tmp_path / "out")
    assert result.samples.images.shape == (8, 4, 3, 1)
    assert set(result.samples.extra) == {"one"}
    assert result.model_path is not None
    assert Runner(result.model_path).main.name == "two"
    by_default = calibrate(proto, synth="procedural", count=8, output=tmp_path / "default")
    assert by_default.samples.images.shape == (8, 6, 5)


def test_an_input_that_is_not_there_is_refused(model_of: ModelOf) -> None:
    with pytest.raises(ModelError, match=r"^--main-input three: no such input; the model's inputs: two, one$"):
        state_main_input(load(streaming(model_of)), "three")
