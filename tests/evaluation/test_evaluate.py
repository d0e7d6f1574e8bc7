"""Evaluation: what is drawn where there is no data, and a torch module as the float model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from dfq_deploy import Samples, calibrate, from_torch
from dfq_deploy.errors import ModelError
from dfq_deploy.evaluation.evaluate import evaluate
from dfq_deploy.graph.writing import write_model
from dfq_deploy.runtime.runner import Output, Runner
from dfq_deploy.samples.preprocess import PREPROCESSES
from tests.conftest import ModelOf


@pytest.fixture
def net() -> nn.Module:
    """A small network of pictures of any size."""
    torch.manual_seed(0)
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, 5)).eval()


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[Samples]:
    """All that the models are fed."""
    seen: list[Samples] = []
    run = Runner.run

    def record(self: Runner, samples: Samples) -> list[Output]:
        seen.append(samples)
        return run(self, samples)

    monkeypatch.setattr(Runner, "run", record)
    return seen


@pytest.fixture
def quantized(net: nn.Module, tmp_path: Path) -> Path:
    images = np.random.default_rng(0).random((8, 3, 8, 8), np.float32)
    calibrate(net, data=Samples(images), input_shape=(3, 8, 8), refine=(), output=tmp_path / "out")
    return tmp_path / "out/model.qdq.onnx"


@pytest.mark.parametrize(("count", "drawn"), [(4, 4), (300, 300), (None, 256)])
def test_as_many_pictures_are_drawn_as_are_asked_for(
    tiny: Callable[..., onnx.ModelProto], tmp_path: Path, fed: list[Samples], count: int | None, drawn: int
) -> None:
    onnx.save(tiny(), tmp_path / "net.onnx")
    found = evaluate(tmp_path / "net.onnx", tmp_path / "net.onnx", count=count)
    assert found.comparison.count == drawn
    assert sum(map(len, fed)) == 2 * drawn  # by both models
    assert found.data == f"{drawn} procedural pictures (seed 0), no real data"


@pytest.mark.parametrize(
    ("inputs", "nodes", "mean", "most"),
    [
        ("float[n,4] x", "a = Sub(x, m) b = Div(a, s) y = MatMul(b, w)", 400, 2000),
        ("float[n,64] waveform", "y = Relu(waveform)", 0, 1),
        ("float[n,3,8,8] x", "a = Div(x, byte) y = Conv(a, k)", 128, 255),
    ],
)
def test_what_the_graph_tells_of_its_input_is_drawn(
    model_of: ModelOf, tmp_path: Path, fed: list[Samples], inputs: str, nodes: str, mean: float, most: float
) -> None:
    """Sound files were BAD: inputs of mean 0 and deviation 1 lie far outside the ranges of a calibration."""
    numbers = {
        "m": np.full(4, 400, np.float32),
        "s": np.full(4, 200, np.float32),
        "w": np.ones((4, 3), np.float32),
        "byte": np.array([255], np.float32),
        "k": np.ones((4, 3, 3, 3), np.float32),
    }
    used = {name: array for name, array in numbers.items() if f", {name})" in nodes}
    onnx.save(model_of(inputs, "float y", nodes, used), tmp_path / "net.onnx")
    evaluate(tmp_path / "net.onnx", tmp_path / "net.onnx", count=64)
    images = np.concatenate([samples.images for samples in fed])
    assert abs(images.mean() - mean) < most / 4
    assert most / 20 < np.abs(images).max() <= most


def test_a_module_is_evaluated_as_its_file_is(
    net: nn.Module, quantized: Path, tmp_path: Path, fed: list[Samples]
) -> None:
    write_model(from_torch(net, (3, 8, 8)), tmp_path / "net.onnx")
    ranges = {"input": (-3.0, 7.0)}
    of_file = evaluate(tmp_path / "net.onnx", quantized, count=16, input_ranges=ranges)
    of_module = evaluate(net, quantized, count=16, input_shape=(3, 8, 8), input_ranges=ranges)
    assert of_module.comparison == of_file.comparison
    assert min(float(samples.images.min()) for samples in fed) < -2
    assert max(float(samples.images.max()) for samples in fed) > 6


def test_the_shapes_of_a_module_are_fixed(net: nn.Module, quantized: Path, fed: list[Samples]) -> None:
    shapes = {"input": (3, 3, 8, 8)}
    pixels = PREPROCESSES["zero-one"]
    found = evaluate(net, quantized, count=4, preprocess=pixels, input_shape=(3, 8, 8), input_shapes=shapes)
    assert found.comparison.count == 4
    with pytest.raises(ModelError, match="no input 'image' to give a shape to; its inputs: input"):
        evaluate(net, quantized, count=4, input_shape=(3, 8, 8), input_shapes={"image": (1, 3, 8, 8)})


@pytest.mark.parametrize("folder", ["0", "."])
def test_what_was_seen_of_pictures_is_said_with_and_without_labels(
    net: nn.Module, quantized: Path, tmp_path: Path, folder: str
) -> None:
    write_model(from_torch(net, (3, 8, 8)), tmp_path / "net.onnx")
    (tmp_path / "data" / folder).mkdir(parents=True)
    Image.new("RGB", (3, 3), (200, 90, 10)).save(tmp_path / "data" / folder / "a.png")
    found = evaluate(tmp_path / "net.onnx", quantized, data=tmp_path / "data", preprocess="zero-one")
    said = ["1 of 1 picture(s) are much smaller", {"0": "1 samples tell", ".": "the samples have no labels"}[folder]]
    assert [any(entry.startswith(words) for entry in found.warnings) for words in said] == [True, True]
