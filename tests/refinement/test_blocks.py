"""Blocks found in graphs, against what one sees in them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch

from dfq_deploy.graph.loading import load
from dfq_deploy.refinement.blocks import blocks_of
from dfq_deploy.twin import Twin

ModelOf = Callable[..., onnx.ModelProto]

WEIGHTS = {f"w{index}": np.ones((4, 4, 1, 1), np.float32) for index in range(6)}

RESIDUAL = """
    a = Conv(x, w0)
    b = Relu(a)
    c = Conv(b, w1)
    d = Relu(c)
    e = Conv(d, w2)
    f = Add(b, e)
    g = Relu(f)
    h = Conv(g, w3)
    i = Conv(h, w4)
    j = Conv(i, w5)
"""


def test_a_residual_block_is_one_and_chains_go_in_twos(model_of: ModelOf) -> None:
    model = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] j", RESIDUAL, WEIGHTS))
    found = blocks_of(Twin.from_model(model), WEIGHTS)
    assert [(block.input, block.output, block.weights) for block in found] == [
        ("x", "b", ("w0",)),
        ("b", "g", ("w1", "w2")),
        ("g", "i", ("w3", "w4")),
        ("i", "j", ("w5",)),
    ]


def test_an_output_halfway_is_no_obstacle_but_what_runs_past_is(model_of: ModelOf) -> None:
    body = "a = Conv(x, w0)\n b = Conv(a, w1)\n c = Conv(b, w2)\n d = Add(c, a)"
    model = load(model_of("float[n,4,8,8] x", "float[n,4,8,8] d", body, WEIGHTS))
    found = blocks_of(Twin.from_model(model), WEIGHTS)
    assert [(block.output, block.weights) for block in found] == [("a", ("w0",)), ("d", ("w1", "w2"))]


def test_the_blocks_one_after_the_other_are_the_network(digits_bn: Path) -> None:
    twin = Twin.from_model(load(digits_bn))
    blocks = blocks_of(twin, [name for name in load(digits_bn).graph.initializers if name.endswith("weight")])
    assert len(blocks) > 3
    assert blocks[0].input == twin.input_names[0]
    assert blocks[-1].output == twin.output_names[0]
    values = torch.rand(3, 1, 16, 16)
    wanted = twin(values)
    for before, block in zip((None, *blocks), blocks, strict=False):
        assert before is None or before.output == block.input
        values = twin.part(block.steps, (block.input,), (block.output,))(values)
    torch.testing.assert_close(values, wanted, rtol=0, atol=0)
