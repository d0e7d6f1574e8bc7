"""ZeroQ's loss against plain torch, image by image."""

from collections.abc import Callable

import onnx
import pytest
import torch
from onnx import numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.methods.zeroq import ZeroQObjective
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]


def test_each_image_by_itself_is_compared_with_the_training_statistics(tiny: Model) -> None:
    model = tiny()
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()).double() for t in model.graph.initializer}
    images = 2 * torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    wanted = 0.0
    for image in images.double():
        features = torch.nn.functional.conv2d(image[None], weights["conv.weight"], padding=1)[0]
        for maps, mean, var in (
            (image, torch.zeros(3).double(), torch.ones(3).double()),
            (features, weights["bn.mean"], weights["bn.var"]),
        ):
            wanted += float(((maps.mean((1, 2)) - mean) ** 2).sum()) / 3
            wanted += float(((maps.std((1, 2), correction=0) - var.sqrt()) ** 2).sum()) / 3
    objective = ZeroQObjective(Twin.from_model(load(model)), SynthesisRequest(3, (3, 8, 8), 4))
    assert objective.loss(images, torch.Generator()).total.item() == pytest.approx(wanted, rel=0.02)  # bfloat16
