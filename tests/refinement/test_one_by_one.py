"""Graphs that fix their batch: biases are corrected one sample at a time, or the batch is opened and compared."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.open_batch import open_batch
from dfq_deploy.graph.query import constant_of
from dfq_deploy.refinement.bias_correction import correct_biases
from dfq_deploy.refinement.one_by_one import takes_batches
from dfq_deploy.refinement.runtime_shifts import InRuntime
from dfq_deploy.twin import Twin
from dfq_deploy.twin.teacher import teacher_of

ModelOf = Callable[..., onnx.ModelProto]


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


WEIGHTS = {
    "w": normal(4, 3, 3, 3),
    "v": normal(64, 5, seed=1),
    "b": normal(4, seed=2),
    "a": normal(5, seed=3),
    "flat": np.array([64]),
    "row": np.array([1, 64]),
    "shuffled": np.array([2, 2, 16]),
    "sizes": np.array([1, 4, 8, 8]),
}
CONV = "c = Conv <pads = [1,1,1,1]> (x, w, b) r = Relu(c)"
OPEN = f"{CONV} f = Flatten(r) y = Gemm(f, v, a)"
RESIZED = f'{CONV} e = Resize <mode = "linear"> (r,,, sizes) m = MaxPool <kernel_shape = [2,2], strides = [2,2]> (e)'
RESIZED = f"{RESIZED} f = Flatten(m) y = Gemm(f, v, a)"
BLOCKED = f"{CONV} g = Reshape(r, flat) f = Reshape(g, row) y = Gemm(f, v, a)"
SHUFFLED = f"{CONV} s = Reshape(r, shuffled) t = Transpose <perm = [1, 0, 2]> (s) f = Flatten(r) y = Gemm(f, v, a)"


def model_with(model_of: ModelOf, nodes: str, batch: str) -> onnx.ModelProto:
    return model_of(f"float[{batch},3,4,4] x", f"float[{batch},5] y", nodes, WEIGHTS)


def biases(model_of: ModelOf, nodes: str, batch: str, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    model, activation = load(model_with(model_of, nodes, batch)), QuantType(4, signed=False, symmetric=False)
    encodings = {name: Encoding.of_range(Range(-2, 2), activation) for name in ("x", "r")}
    correct_biases(model, encodings, images)
    heads = [node for node in model.graph if node.op_type in ("Conv", "Gemm")]
    found = [constant_of(node.inputs[2]) for node in heads]
    return [tensor.numpy() for tensor in found if tensor is not None]


def test_one_by_one_corrects_what_all_at_once_corrects(model_of: ModelOf) -> None:
    images = normal(12, 3, 4, 4, seed=4)
    together, alone = (biases(model_of, *form, images) for form in ((OPEN, "n"), (BLOCKED, "1")))
    assert np.abs(together[1] - WEIGHTS["a"]).max() > 1e-3
    for wanted, given in zip(together, alone, strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("nodes", "takes"), [(OPEN, True), (BLOCKED, False), (SHUFFLED, True), (RESIZED, True)])
def test_whether_a_batch_can_be_opened(model_of: ModelOf, nodes: str, takes: bool) -> None:
    model = load(model_with(model_of, nodes, "1"))
    assert (teacher_of(model, {}, "cpu").batch is None) is takes
    opened = model.clone()
    open_batch(opened, 1)
    feeds = {"x": torch.from_numpy(normal(4, 3, 4, 4))}
    assert takes_batches(model, Twin.from_model(opened), feeds) is takes
    assert takes_batches(model, InRuntime(opened), feeds) is takes


def test_samples_that_are_mixed_are_noticed(model_of: ModelOf) -> None:
    # The mean over the rows of one sample becomes a mean over those of all.
    nodes = "s = Reshape(x, rows) m = ReduceMean <axes = [0], keepdims = 1> (s) k = Concat <axis = 1> (m, m) "
    nodes += "y = Mul(x, k)"
    model = load(model_of("float[1,4] x", "float[1,4] y", nodes, {"rows": np.array([2, 2])}))
    assert teacher_of(model, {}, "cpu").batch == 1


def test_a_shuffle_of_channels_takes_any_batch(model_of: ModelOf) -> None:
    nodes = "s = Reshape(x, folded) t = Transpose <perm = [1, 0, 2]> (s) y = Reshape(t, back)"
    constants = {"folded": np.array([8, 2, 3]), "back": np.array([2, -1, 8, 3])}
    fixed = model_of("float[1,16,3] x", "float[2,1,8,3] y", nodes, constants)
    opened = load(fixed)
    open_batch(opened, 1)
    images = torch.from_numpy(normal(3, 16, 3))
    given = Twin.from_model(opened)(images)
    session = ort.InferenceSession(fixed.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = np.concatenate([session.run(None, {"x": one[None].numpy()})[0] for one in images], axis=1)
    assert isinstance(given, torch.Tensor)
    np.testing.assert_array_equal(given.numpy(), wanted)
