"""Shape arithmetic stays on the CPU: on the meta device, whose tensors hold no values, reading one would raise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from dfq_deploy.graph.loading import load
from dfq_deploy.twin import Twin

Maker = Callable[..., onnx.ModelProto]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
MODELS = sorted((Path(__file__).parents[2] / "../shared/zoo/models").glob("*_bn.onnx"))


def _on_meta(twin: Twin, *inputs: Tensor) -> Tensor:
    result = twin.to("meta")(*(x.to("meta") for x in inputs))
    assert isinstance(result, Tensor)
    assert result.device.type == "meta"
    return result


@pytest.mark.skipif(not MODELS, reason="the model zoo is not beside the checkout")
@pytest.mark.parametrize("path", MODELS, ids=[path.stem for path in MODELS])
def test_real_models_run_without_reading_a_value(path: Path) -> None:
    size = 224 if "mobilenet" in path.stem else 32
    assert _on_meta(Twin.from_model(load(path)), torch.zeros(2, 3, size, size)).shape[0] == 2


def test_upsampling_to_the_size_of_another_tensor(make_model: Maker) -> None:
    """As torch's exporter writes interpolate(x, size=other.shape[2:])."""
    model = make_model(
        [
            helper.make_node("Shape", ["other"], ["shape"]),
            helper.make_node("Slice", ["shape", "two", "four", "zero"], ["space"]),
            helper.make_node("Shape", ["x"], ["own"]),
            helper.make_node("Slice", ["own", "zero", "two", "zero"], ["head"]),
            helper.make_node("Concat", ["head", "space"], ["sizes"], axis=0),
            helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear"),
        ],
        {"x": (FLOAT, ("n", 2, 3, 3)), "other": (FLOAT, ("n", 1, 6, 9))},
        {"zero": np.array([0], np.int64), "two": np.array([2], np.int64), "four": np.array([4], np.int64)},
    )
    twin = Twin.from_model(ir.from_proto(model))
    assert _on_meta(twin, torch.zeros(2, 2, 3, 3), torch.zeros(2, 1, 6, 9)).shape == (2, 2, 6, 9)


def test_scales_worked_out_in_float(make_model: Maker) -> None:
    """As older exporters write a scale factor: cast, multiply by a constant, floor."""
    model = make_model(
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Cast", ["shape"], ["wide"], to=FLOAT),
            helper.make_node("Mul", ["wide", "factors"], ["exact"]),
            helper.make_node("Floor", ["exact"], ["whole"]),
            helper.make_node("Cast", ["whole"], ["sizes"], to=INT64),
            helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="nearest"),
        ],
        {"x": (FLOAT, (1, 1, 4, 4))},
        {"factors": np.array([1, 1, 1.5, 2], np.float32)},
    )
    assert _on_meta(Twin.from_model(ir.from_proto(model)), torch.zeros(1, 1, 4, 4)).shape == (1, 1, 6, 8)


def test_positions_made_from_a_length_reach_the_embedding(make_model: Maker) -> None:
    """A transformer's position embedding: Range is made on the CPU, Gather takes it to the weight's device."""
    model = make_model(
        [
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("Gather", ["shape", "one"], ["length"]),
            helper.make_node("Range", ["zero", "length", "one"], ["positions"]),
            helper.make_node("Gather", ["table", "positions"], ["embedding"]),
            helper.make_node("Unsqueeze", ["positions", "axes"], ["column"]),
            helper.make_node("Cast", ["column"], ["number"], to=FLOAT),
            helper.make_node("Add", ["x", "embedding"], ["sum"]),
            helper.make_node("Mul", ["sum", "number"], ["y"]),
        ],
        {"x": (FLOAT, ("n", "length", 16))},
        {
            "zero": np.int64(0),
            "one": np.int64(1),
            "axes": np.array([1], np.int64),
            "table": np.arange(160, dtype=np.float32).reshape(10, 16),
        },
    )
    twin = Twin.from_model(ir.from_proto(model))
    result = twin(torch.ones(1, 3, 16))
    assert isinstance(result, Tensor)
    assert result[0, :, 0].tolist() == [0, 17, 66]  # (1 + 16 k) * k
    twin.initializer("table").requires_grad_()
    assert _on_meta(twin, torch.zeros(2, 5, 16)).requires_grad
