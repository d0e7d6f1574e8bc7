"""Graphs that fix their batch: blocks are learned and solved as those of an open batch are."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from dfq_deploy import Samples
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.progress import Progress
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.refinement.block_learner import BlockLearner
from dfq_deploy.refinement.blocks import Block, with_rows
from dfq_deploy.refinement.closed_form.layers import ClosedForm
from dfq_deploy.refinement.reconstruction import Reconstruction, reconstruct
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.twin import Twin
from tests.refinement.test_one_by_one import OPEN, WEIGHTS, normal

ModelOf = Callable[..., onnx.ModelProto]

CONVS = "c = Conv <pads = [1,1,1,1]> (x, w, b) r = Relu(c) d = Conv <pads = [1,1,1,1]> (r, u, b) s = Relu(d) "
FORMS = {
    "n": f"{CONVS} f = Flatten(s) y = Gemm(f, v, a)",
    "1": f"{CONVS} g = Reshape(s, flat) f = Reshape(g, row) y = Gemm(f, v, a)",
}
"""The same network; the second one has a tensor without a batch."""


def learned(model_of: ModelOf, batch: str, learner: type[BlockLearner]) -> dict[str, np.ndarray]:
    weights = {**WEIGHTS, "u": normal(4, 4, 3, 3, seed=5)}
    model = load(model_of(f"float[{batch},3,4,4] x", f"float[{batch},5] y", FORMS[batch], weights))
    prepared, samples = prepare(model, find_target("cpu"), Bits(4, 8)), Samples(normal(24, 3, 4, 4, seed=6))
    encodings = encode(prepared, find_plugin("calibrators", "minmax")(), samples).encodings
    how = Reconstruction(iterations=30, samples=24)
    reconstruct(prepared.model, prepared.placement, encodings, samples, settings=how, learner=learner)
    names = [*prepared.placement.weights, *(name for name in prepared.model.graph.initializers if name in ("a", "b"))]
    found = {name: prepared.model.graph.initializers[name].const_value for name in names}
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


@pytest.mark.parametrize("learner", [BlockLearner, ClosedForm])
def test_a_fixed_batch_learns_what_an_open_one_does(model_of: ModelOf, learner: type[BlockLearner]) -> None:
    together, alone = (learned(model_of, batch, learner) for batch in ("n", "1"))
    assert {"w", "u", "v"} <= together.keys() == alone.keys()
    for name, wanted in together.items():
        assert np.abs(wanted - WEIGHTS.get(name, 0)).max() > 1e-4, name
        np.testing.assert_allclose(alone[name], wanted, rtol=1e-4, atol=1e-5)


def test_blocks_end_where_the_first_axis_counts_samples(model_of: ModelOf) -> None:
    nodes = f"{CONVS} g = Reshape(s, flat) h = MatMul(g, v) k = Reshape(h, one) y = MatMul(k, z)"
    constants = {**WEIGHTS, "u": normal(4, 4, 3, 3), "z": normal(5, 5), "one": np.array([1, 5])}
    twin = Twin.from_model(load(model_of("float[1,3,4,4] x", "float[1,5] y", nodes, constants)))
    blocks = [Block(one, other, twin.steps[:1], ("w",)) for one, other in (("x", "s"), ("s", "g"), ("g", "h"))]
    last = Block("h", "y", twin.steps[1:2], ("z",))
    found = with_rows([*blocks, last], twin, torch.zeros(1, 3, 4, 4), 1)
    assert [(block.input, block.output, block.weights) for block in found] == [
        ("x", "s", ("w",)),
        ("s", "y", ("w", "w", "z")),
    ]


SHUFFLED = """
    c = Conv <pads = [1,1,1,1]> (x, w, b) r = Relu(c) g = Reshape(r, pairs) t = Transpose <perm = [1, 0, 2]> (g)
    h = Reshape(t, halves) one = Gather(h, first) two = Gather(h, second)
    d = Conv <pads = [1,1,1,1]> (two, u, a) e = Conv <pads = [1,1,1,1]> (d, u, a)
    s = Concat <axis = 1> (one, e) f = Flatten(s) y = Gemm(f, v)"""


class Noting(BlockLearner):
    """Keeps the shapes between the blocks."""

    shapes: ClassVar[list[tuple[int, ...]]] = []

    def learn(
        self, twin: Twin, block: Block, exact: Tensor, quantized: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        found = super().learn(twin, block, exact, quantized, progress)
        self.shapes.append(tuple(found[0].shape))
        return found


def test_the_halves_of_a_channel_shuffle_stay_within_a_block(model_of: ModelOf) -> None:
    """Between Reshape and Gather the first axis counts the halves, and the second one the samples."""
    weights = {"w": normal(4, 3, 3, 3), "b": normal(4), "u": normal(2, 2, 3, 3), "a": normal(2), "v": normal(64, 5),
               "pairs": np.array([-1, 2, 16]), "halves": np.array([2, -1, 2, 4, 4]),
               "first": np.array(0), "second": np.array(1)}  # fmt: skip
    model = load(model_of("float[n,3,4,4] x", "float[n,5] y", SHUFFLED, weights))
    prepared, samples = prepare(model, find_target("cpu"), Bits(4, 8)), Samples(normal(26, 3, 4, 4, seed=6))
    encodings = encode(prepared, find_plugin("calibrators", "minmax")(), samples).encodings
    Noting.shapes.clear()
    how = Reconstruction(iterations=5, batch=8, samples=26)
    reconstruct(prepared.model, prepared.placement, encodings, samples, settings=how, learner=Noting)
    assert Noting.shapes[-1] == (26, 5)
    assert {len(samples)} == {shape[0] for shape in Noting.shapes}


@pytest.mark.parametrize("batch", [1, 2])
def test_runs_in_step_give_what_the_twin_gives(model_of: ModelOf, batch: int) -> None:
    twin = Twin.from_model(load(model_of("float[n,3,4,4] x", "float[n,5] y", OPEN, WEIGHTS)))
    rows = torch.from_numpy(normal(5, 3, 4, 4, seed=7))
    wanted = twin.run({"x": rows}, hooks={"r": lambda values: values + values.mean()})
    twin.batch = batch
    given = twin.run({"x": rows}, keep=["r"], hooks={"r": lambda values: values + values.mean()})
    assert given["y"].shape == (5, 5)
    assert given["r"].shape == (5 + 5 % batch, 4, 4, 4)
    if batch == 1:  # else the last sample counts twice in the mean
        torch.testing.assert_close(given["y"], wanted["y"])
