"""A batch that does not stand first in each input."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy import calibrate
from dfq_deploy.graph.inputs import input_values
from dfq_deploy.graph.loading import load, load_notes
from dfq_deploy.runtime.moved_batch import moved_batch, with_open_batch
from dfq_deploy.runtime.sizes import load_sized
from tests.conftest import ModelOf

RNG = np.random.default_rng(0)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


WEIGHTS = {"a": normal(12, 8), "w": normal(1, 18, 8), "r": normal(1, 18, 6), "b": normal(6, 4), "one": np.array([1])}


def recurrent(model_of: ModelOf) -> onnx.ModelProto:
    """Sound [batch, frames, 12] beside a state [1, batch, 6], which comes back."""
    nodes = """
        h = MatMul(sound, a) p = Relu(h) t = Transpose <perm = [1, 0, 2]> (p)
        s, next = GRU <hidden_size = 6> (t, w, r, , , state)
        q = Squeeze(s, one) u = Transpose <perm = [1, 0, 2]> (q) y = MatMul(u, b)"""
    outputs = "float[batch,frames,4] y, float[1,batch,6] next"
    return model_of("float[batch,frames,12] sound, float[1,batch,6] state", outputs, nodes, WEIGHTS)


def shapes(model: onnx.ModelProto) -> list[list[int | str]]:
    values = (*model.graph.input, *model.graph.output)
    return [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values]


def test_a_state_has_one_sample_at_a_time(model_of: ModelOf) -> None:
    model = load_sized(recurrent(model_of))
    assert [list(value.shape or ()) for value in input_values(model)] == [[1, 64, 12], [1, 1, 6]]
    assert load_notes(model)[0].startswith("the batch 'batch' does not stand first in each input")


def test_the_result_takes_any_batch_and_length(model_of: ModelOf, tmp_path: Path) -> None:
    proto = recurrent(model_of)
    found = calibrate(proto, synth="procedural", count=16, floor="none", output=tmp_path / "out")
    assert found.model_path is not None
    assert shapes(onnx.load(found.model_path)) == shapes(proto)
    feeds = {"sound": normal(3, 20, 12) * 3, "state": normal(1, 3, 6)}
    given, wanted = (
        ort.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for file in (found.model_path, proto.SerializeToString())
    )
    assert 10 * np.log10(np.square(wanted).sum() / np.square(wanted - given).sum()) > 20


def test_a_batch_without_a_name_behind_the_layers_of_a_state_is_found(model_of: ModelOf, tmp_path: Path) -> None:
    proto = unnamed(recurrent(model_of))
    model = load_sized(proto)
    assert [list(value.shape or ()) for value in input_values(model)] == [[1, 64, 12], [1, 1, 6]]
    found = calibrate(proto, synth="procedural", count=16, floor="none", output=tmp_path / "out")
    assert found.model_path is not None
    assert shapes(onnx.load(found.model_path))[:2] == [[0, 0, 12], [1, 0, 6]]
    session = ort.InferenceSession(found.model_path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"sound": normal(3, 20, 12), "state": normal(1, 3, 6)})[0].shape == (3, 20, 4)


def test_an_open_size_of_its_own_is_no_batch(model_of: ModelOf) -> None:
    """What the model remembers may have any length, beside any number of samples."""
    nodes = "h = MatMul(sound, a) m = ReduceMean <axes = [0, 1], keepdims = 0> (past) y = Add(h, m)"
    proto = unnamed(model_of("float[n,20,12] sound, float[2,past,8] past", "float[n,20,8] y", nodes, WEIGHTS))
    model = load_sized(proto)
    assert [list(value.shape or ()) for value in input_values(model)][1] == [2, 64, 8]
    assert not isinstance(next(iter(input_values(model)[0].shape or ())), int)


def unnamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Open sizes as ``?``, which need not be the same."""
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.Clear()
    return model


def test_a_batch_that_stays_closed_is_said(model_of: ModelOf) -> None:
    source = load_sized(recurrent(model_of))
    fixed = load(
        model_of("float[1,64,12] sound, float[1,1,6] state", "float y", FIXED, {"a": WEIGHTS["a"], "of_one": OF_ONE})
    )
    model, said = with_open_batch(fixed, source)
    assert model is fixed
    (sentence,) = said
    assert sentence.startswith("the batch of the quantized model is 1: it does not run two samples (")
    assert with_open_batch(fixed, fixed) == (fixed, ())


FIXED = "h = MatMul(sound, a) m = Reshape(h, of_one) s = ReduceSum(state) y = Add(m, s)"
OF_ONE = np.array([1, 512])


def test_time_before_the_batch_is_closed_and_said(model_of: ModelOf) -> None:
    nodes = "c = Cast <to = 1> (length) h = MatMul(x, a) y = Mul(h, c)"
    model = model_of("float[T,N,12] x, int64[N,1] length", "float[T,N,8] y", nodes, {"a": WEIGHTS["a"]})
    sized = load_sized(model)
    assert [list(value.shape or ()) for value in input_values(sized)] == [[64, 1, 12], [1, 1]]
    assert load_notes(sized) == (
        "input 'x' has its time first and its batch behind: 'N' 1, 'T' 64 here and in the quantized model; export "
        "it with the batch first to keep them open",
    )


@pytest.mark.parametrize(
    ("inputs", "batch"),
    [
        ("float[n,3,h,w] x", ""),
        ("float[dyn,3,dyn,dyn] x", ""),
        ("float[n,t,4] x, float[n,1,t] m", ""),
        ("float[n,t,4] x, float[2,n,6] s", "n"),
        ("float[n,t,4] x, float[n,n] s", ""),
        ("float[t,n,4] x, int64[n] length", "n"),
        ("float[1,t,4] x, float[t,1] m", ""),
    ],
)
def test_only_one_place_of_an_input_is_the_batch(model_of: ModelOf, inputs: str, batch: str) -> None:
    names = [part.split()[-1] for part in inputs.split(", ")]
    nodes = " ".join(f"c{i} = Cast <to = 1> ({name}) s{i} = ReduceSum(c{i})" for i, name in enumerate(names))
    assert (
        moved_batch(
            load(model_of(inputs, "float y", f"{nodes} y = Sum({', '.join(f's{i}' for i in range(len(names)))})", {}))
        )
        == batch
    )
