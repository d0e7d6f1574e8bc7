"""Models without a batch, and models that look alike and have one."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from dfq_deploy.graph.loading import load, load_quantized
from dfq_deploy.graph.missing_batch import lacks_batch, values_without_batch

ModelOf = Callable[..., onnx.ModelProto]

ARRAYS = {
    **{"w": np.ones((16, 16), np.float32), "k": np.ones((4, 3, 3, 3), np.float32), "zero": np.zeros(1, np.int64)},
    **{"one": np.ones(1, np.int64), "whole": np.array([1, -1, 16], np.int64), "wide": np.array([1, -1], np.int64)},
    **{"first": np.array(0, np.int64), "input": np.ones((1, 4, 16), np.float32)},
    "bytes": np.ones((16, 16), np.int8),
    "scale": np.array(0.5, np.float32),
    "state": np.ones((1, 4, 4), np.float32),
}

WITHOUT = {
    "one picture": ("float[3,8,8] x", "u = Unsqueeze(x, zero) y = Conv(u, k)"),
    "one picture with its channels last": (
        "float[height,width,3] x",
        "s = Mul(x, scale) t = Transpose <perm = [2, 0, 1]> (s) u = Unsqueeze(t, zero) y = Conv(u, k)",
    ),
    "frames that become columns": (
        "float[time,16] x",
        "t = Transpose <perm = [1, 0]> (x) u = Unsqueeze(t, zero) y = Relu(u)",
    ),
    "one wave": ("float[time] x", "u = Reshape(x, wide) y = Relu(u)"),
    "frames in a Reshape": ("float[time,16] x", "m = MatMul(x, w) y = Reshape(m, whole)"),
    "the mean of frames": ("float[time,16] x", "m = MatMul(x, w) r = Relu(m) y = ReduceMean <axes = [0]> (r)"),
    "attention over frames": (
        "float[time,16] x",
        "q = MatMul(x, w) t = Transpose <perm = [1, 0]> (q) s = MatMul(q, t) y = Softmax(s)",
    ),
    "features": ("float[16] x", "y = MatMul(x, w)"),
    "a recurrent layer over frames": (
        "float[frames,16] x",
        "u = Unsqueeze(x, one) y, h = RNN <hidden_size = 4> (u, input, state)",
    ),
    "one sentence": (
        "int64[tokens] x",
        "e = Gather(w, x) t = Transpose <perm = [1, 0]> (e) s = MatMul(e, t) y = Softmax(s)",
    ),
    "a graph whose links are rows of one index": (
        "float[N,16] x, int64[edges,1] links",
        "m = MatMul(x, w) y = GatherND(m, links)",
    ),
    "a graph": (
        "float[N,16] x, int64[2,edges] links",
        "m = MatMul(x, w) s = Gather(links, first) y = Gather(m, s)",
    ),
}

IN_INTEGERS = {
    "features": (
        "float[16] x",
        "q, s, z = DynamicQuantizeLinear(x) y = MatMulInteger(q, bytes, z)",
    ),
    "a graph": (
        "float[N,16] x, int64[edges] links",
        "q, s, z = DynamicQuantizeLinear(x) m = MatMulInteger(q, bytes, z) f = Cast <to = 1> (m) d = Mul(f, s) "
        "y = Gather(d, links)",
    ),
}

WITH = {
    "dense": ("float[n,16] x", "m = MatMul(x, w) y = Softmax(m)"),
    "open without a name": ("float[?,16] x", "m = MatMul(x, w) y = Relu(m)"),
    "pictures": ("float[n,3,8,8] x", "y = Conv(x, k)"),
    "an axis before a batch": ("float[batch,16] x", "u = Unsqueeze(x, zero) y = MatMul(u, w)"),
    "a vector of numbers": ("float[rows] x", "y = Unsqueeze(x, one)"),
    "a batch that a Reshape fixes": ("float[rows,16] x", "y = Reshape(x, wide)"),
    "a batch of one": ("float[1,16] x", "u = Unsqueeze(x, zero) y = Relu(u)"),
    "the mean of everything": ("float[rows,16] x", "y = ReduceMean(x)"),
    "a category of each sample": ("int64[rows] x", "e = Gather(w, x) y = MatMul(e, w)"),
    "pictures with their channels last": (
        "float[rows,8,8,3] x",
        "t = Transpose <perm = [0, 3, 1, 2]> (x) y = Conv(t, k)",
    ),
    "a product with a transposed weight": ("float[rows,16] x", "t = Transpose <perm = [1, 0]> (w) y = MatMul(x, t)"),
    "the last token of each sentence": (
        "int64[batch,tokens] x, int64[batch,2] places",
        "e = Gather(w, x) m = MatMul(e, w) y = GatherND(m, places)",
    ),
    "rows of each sample": ("float[rows,4,16] x, int64[rows] i", "y = Gather <axis = 1> (x, i)"),
}


def built(model_of: ModelOf, inputs: str, nodes: str) -> onnx.ModelProto:
    return model_of(inputs, "float y", nodes, {name: array for name, array in ARRAYS.items() if name in nodes})


@pytest.mark.parametrize("form", WITHOUT)
def test_without(form: str, model_of: ModelOf) -> None:
    model = load(built(model_of, *WITHOUT[form]))
    assert lacks_batch(model)
    assert {"x", "y"} <= values_without_batch(model) | {"y"}


@pytest.mark.parametrize("form", IN_INTEGERS)
def test_without_in_a_file_of_dynamic_quantization(form: str, model_of: ModelOf) -> None:
    """Beside a float model without a batch, the file took its samples for single numbers."""
    assert lacks_batch(load_quantized(built(model_of, *IN_INTEGERS[form])))


@pytest.mark.parametrize("form", WITH)
def test_with(form: str, model_of: ModelOf) -> None:
    model = load(built(model_of, *WITH[form]))
    assert not lacks_batch(model)
    assert values_without_batch(model) == frozenset()
