"""Layers as matrices: positions times matrix is what the layer computes."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from dfq_deploy.graph.loading import load
from dfq_deploy.refinement.closed_form.layer_matrix import LayerMatrix
from dfq_deploy.twin import Twin
from tests.conftest import ModelOf

CASES = {
    "conv": ("float[n,4,9,7] x", "y = Conv<pads=[1,0,2,1], strides=[2,1]>(x, w)", (6, 4, 3, 2)),
    "grouped": ("float[n,4,9,7] x", "y = Conv<group=2, dilations=[2,1]>(x, w)", (6, 2, 3, 2)),
    "depthwise": ("float[n,4,9,7] x", "y = Conv<group=4, pads=[1,1,1,1]>(x, w)", (8, 1, 3, 3)),
    "one-dimensional": ("float[n,4,9] x", "y = Conv<pads=[1,1]>(x, w)", (5, 4, 3)),
    "matmul": ("float[n,3,4] x", "y = MatMul(x, w)", (4, 5)),
    "gemm": ("float[n,4] x", "y = Gemm(x, w)", (4, 5)),
    "turned gemm": ("float[n,4] x", "y = Gemm<transB=1>(x, w)", (5, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_positions_times_matrix_is_the_output(model_of: ModelOf, case: str) -> None:
    given, nodes, shape = CASES[case]
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = load(model_of(given, "float y", nodes, {"w": weight}))
    layer = LayerMatrix.of(_node(model))
    assert layer is not None
    twin = Twin.from_model(model)
    values = torch.randn(2, *_sizes(given), generator=torch.Generator().manual_seed(1))
    matrix = layer.matrix(torch.from_numpy(weight))
    assert matrix.shape == (layer.groups, layer.outputs, layer.inputs)
    torch.testing.assert_close(layer.weight(matrix), torch.from_numpy(weight))
    found = layer.positions(twin.steps[0], values) @ matrix.transpose(1, 2)  # (G, P, N)
    output = twin.run({"x": values})["y"]
    rows = output.movedim(1, -1) if nodes.startswith("y = Conv") else output
    expected = rows.reshape(-1, layer.groups, layer.outputs).transpose(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("nodes", ["y = Gemm<transA=1>(x, w)", "y = Gemm<alpha=2.0>(x, w)", "y = MatMul(x, x)"])
def test_other_products_are_left_out(model_of: ModelOf, nodes: str) -> None:
    model = load(model_of("float[4,4] x", "float[4,4] y", nodes, {"w": np.ones((4, 4), np.float32)}))
    assert LayerMatrix.of(_node(model)) is None


def _node(model: ir.Model) -> ir.Node:
    return next(iter(model.graph))


def _sizes(given: str) -> list[int]:
    return [int(size) for size in given[given.index("[") + 3 : given.index("]")].split(",")]
