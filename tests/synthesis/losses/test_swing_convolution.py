"""Swung convolutions see shifted features, and no other node changes."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch

from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.losses.swing_convolution import swing, with_swing_convolutions
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]


def test_features_are_shifted_and_mirrored_at_the_edge() -> None:
    row = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    generator = torch.Generator().manual_seed(0)
    found = {tuple(swing(row, 1, generator).flatten().int().tolist()) for _ in range(200)}
    assert len(found) == 9
    assert (1, 2, 3, 4, 5, 6, 7, 8, 9) in found
    assert (5, 4, 5, 2, 1, 2, 5, 4, 5) in found  # down and right by one: 5 is mirrored at both edges
    assert (5, 6, 5, 8, 9, 8, 5, 6, 5) in found


def test_a_map_of_one_pixel_stays_as_it_is() -> None:
    one = torch.ones(2, 3, 1, 4)
    assert torch.equal(swing(one, 1, torch.Generator()), one)


@pytest.mark.parametrize(("strides", "swung"), [([2, 2], True), ([1, 2], True), ([1, 1], False)])
def test_strided_convolutions_alone_swing(model_of: Model, strides: list[int], swung: bool) -> None:
    nodes = f"c = Conv<strides={strides}>(x, w) y = Relu(c)"
    model = model_of("float[n,1,6,6] x", "float[n,1,h,w] y", nodes, {"w": np.ones((1, 1, 1, 1), np.float32)})
    twin = Twin.from_model(load(model))
    images = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    plain = twin(images)
    changed = with_swing_convolutions(twin, 1, torch.Generator().manual_seed(1))
    seen = [changed(images) for _ in range(30)]
    assert any(not torch.equal(one, plain) for one in seen) == swung
    assert torch.equal(twin(images), plain)  # the teacher itself is left alone
    if strides == [2, 2]:
        # A 1x1 convolution with stride 2 sees a quarter of the pixels; swung, each of them in turn.
        assert {float(value) for one in seen for value in one.flatten()} == {float(value) for value in images.flatten()}
