"""Input statistics from BatchNormalization, against inputs whose statistics are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.input_statistics import input_statistics
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.sanity.input_scale import channel_statistics
from examples.digits import data

Model = Callable[..., onnx.ModelProto]

MEAN, STD = (0.7, -0.2, 1.5), 0.6


def walked(generator: np.random.Generator, count: int, side: int) -> np.ndarray:
    """Pictures (count, 3, side, side) whose neighbors correlate by 0.95 along both axes, and colors by 0.9."""
    rows = generator.standard_normal((4, count, side, side))
    for axis in (2, 3):
        rows = np.moveaxis(rows, axis, 0)
        for index in range(1, side):
            rows[index] = 0.95 * rows[index - 1] + np.sqrt(1 - 0.95**2) * rows[index]
        rows = np.moveaxis(rows, 0, axis)
    colors = np.sqrt(0.9) * rows[:1] + np.sqrt(0.1) * rows[1:]
    return np.asarray(colors.transpose(1, 0, 2, 3))


@pytest.fixture
def trained(tiny: Model) -> onnx.ModelProto:
    """A tiny network whose BatchNormalization has seen pictures of MEAN and STD."""
    model = tiny(size=24)
    weights = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    images = np.reshape(MEAN, (3, 1, 1)) + STD * walked(np.random.default_rng(0), 200, 24)
    patches = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    outputs = np.einsum("ncyxij,ocij->noyx", patches, weights["conv.weight"], optimize=True)
    measured = {"bn.mean": outputs.mean(axis=(0, 2, 3)), "bn.var": outputs.var(axis=(0, 2, 3))}
    for entry in model.graph.initializer:
        if entry.name in measured:
            entry.CopyFrom(numpy_helper.from_array(measured[entry.name].astype(np.float32), entry.name))
    return model


def test_mean_and_deviation_of_the_training_inputs_come_back(trained: onnx.ModelProto) -> None:
    found = input_statistics(load(trained))
    assert found is not None
    np.testing.assert_allclose(found.mean, MEAN, atol=0.1)
    assert found.std == pytest.approx(STD, rel=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_channels_that_the_kernels_take_for_one_have_one_mean(tiny: Model, seed: int) -> None:
    """As those of networks that look at faces; the running mean is a little off, as after few epochs."""
    rng, model = np.random.default_rng(seed), tiny()
    kernels = rng.normal(0.1, 0.3, (8, 1, 3, 3)) + rng.normal(0, 0.003, (8, 3, 3, 3))
    flat = kernels.reshape(8, -1)
    rows, columns = np.mgrid[:3, :3].reshape(2, -1)
    near = 0.95 ** np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    std = 0.25 * np.sqrt(np.einsum("oi,ij,oj->o", flat, np.kron(0.1 * np.eye(3) + 0.9, near), flat))
    mean = 0.45 * kernels.sum(axis=(1, 2, 3)) + 0.05 * std * rng.standard_normal(8)
    given = {"conv.weight": kernels, "bn.mean": mean, "bn.var": std**2}
    for entry in model.graph.initializer:
        if entry.name in given:
            entry.CopyFrom(numpy_helper.from_array(given[entry.name].astype(np.float32), entry.name))
    found = input_statistics(load(model))
    assert found is not None
    np.testing.assert_allclose(found.mean, [0.45] * 3, atol=0.1)
    assert found.std == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_random_statistics_tell_nothing(tiny: Model, seed: int) -> None:
    assert input_statistics(load(tiny(seed=seed))) is None


def test_those_of_the_digits_come_back(digits_bn: Path) -> None:
    found = input_statistics(load(digits_bn))
    training = Samples(data.PREPROCESS.apply(data.training().images))
    (mean,), std = channel_statistics(training, 1)
    assert found is not None
    assert found.mean[0] == pytest.approx(mean, abs=0.1)
    assert std / 1.5 < found.std < 1.5 * std


def test_the_zoo_tells_imagenet(zoo: Path) -> None:
    # Photographs have about mean (0.485, 0.456, 0.406) and deviation 0.25; the model takes 2 x pixel - 1.
    found = input_statistics(load(zoo / "models/mobilenet_v1_075_224_bn.onnx"))
    assert found is not None
    np.testing.assert_allclose((np.asarray(found.mean) + 1) / 2, (0.485, 0.456, 0.406), atol=0.03)
    assert 0.2 < found.std / 2 < 0.35


def test_nothing_is_told_without_batch_normalization(digits_folded: Path) -> None:
    assert input_statistics(load(digits_folded)) is None


def test_a_normalization_that_is_no_neighbor_of_the_input_tells_nothing(model_of: Model) -> None:
    weights = {"w": np.ones((4, 1, 3, 3), np.float32)} | {
        name: np.ones(4, np.float32) for name in ("scale", "bias", "mean", "var")
    }
    nodes = "r = Relu(x) c = Conv(r, w) y = BatchNormalization(c, scale, bias, mean, var)"
    assert input_statistics(load(model_of("float[n,1,8,8] x", "float[n,4,6,6] y", nodes, weights))) is None
