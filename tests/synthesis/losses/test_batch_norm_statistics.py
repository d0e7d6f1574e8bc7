"""Feature statistics against plain torch in float64, and distances worked out by hand."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from dfq_deploy.graph.loading import load
from dfq_deploy.synthesis.losses.batch_norm_statistics import (
    FeatureStatistics,
    LayerStatistics,
    feature_distance,
    mean_squares,
    relative_distance,
)
from dfq_deploy.twin import Twin

Model = Callable[..., onnx.ModelProto]


def weights_of(model: onnx.ModelProto) -> dict[str, Tensor]:
    return {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()).double() for t in model.graph.initializer}


def images(channels_last: bool = False) -> Tensor:
    drawn = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 + 0.5
    return drawn.to(memory_format=torch.channels_last) if channels_last else drawn


def loss(mean: Tensor, var: Tensor) -> Tensor:
    """Something of both whose gradient differs from channel to channel."""
    slope = torch.linspace(-1, 2, len(mean), dtype=mean.dtype)
    return (slope * mean).sum() + (slope.flip(0) * var.sqrt()).sum()


@pytest.mark.parametrize("channels_last", [False, True])
def test_moments_and_their_gradients_are_those_of_torch(tiny: Model, channels_last: bool) -> None:
    model = tiny()
    wanted_input = images().double().requires_grad_()
    features = torch.nn.functional.conv2d(wanted_input, weights_of(model)["conv.weight"], padding=1)
    wanted_var, wanted_mean = torch.var_mean(features, (0, 2, 3), correction=0)
    loss(wanted_mean, wanted_var).backward()  # type: ignore[no-untyped-call]

    given = images(channels_last).requires_grad_()
    _, (layer,) = FeatureStatistics(Twin.from_model(load(model))).run(given)
    loss(layer.mean, layer.var).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(layer.mean.double(), wanted_mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(layer.var.double(), wanted_var, rtol=1e-5, atol=1e-5)
    assert given.grad is not None
    assert wanted_input.grad is not None
    torch.testing.assert_close(given.grad.double(), wanted_input.grad, rtol=1e-4, atol=1e-6)


def test_measuring_changes_neither_the_output_nor_its_gradient(tiny: Model) -> None:
    twin = Twin.from_model(load(tiny()))
    plain, measured = images().requires_grad_(), images().requires_grad_()
    scores = twin(plain)
    found, _ = FeatureStatistics(twin).run(measured)
    torch.testing.assert_close(found, scores)
    scores.square().sum().backward()
    found.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(measured.grad, plain.grad, rtol=1e-4, atol=1e-6)


def test_bfloat16_comes_close(tiny: Model) -> None:
    statistics = FeatureStatistics(Twin.from_model(load(tiny())))
    exact, rough = images().requires_grad_(), images().requires_grad_()
    _, (wanted,) = statistics.run(exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, (found,) = statistics.run(rough)
    for layer in (wanted, found):
        assert (layer.mean.dtype, layer.var.dtype) == (torch.float32, torch.float32)
        loss(layer.mean, layer.var).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(found.mean, wanted.mean, rtol=0.02, atol=0.02)
    torch.testing.assert_close(found.var, wanted.var, rtol=0.02, atol=0.02)
    assert exact.grad is not None
    assert rough.grad is not None
    assert (rough.grad - exact.grad).norm() < 0.02 * exact.grad.norm()


def test_what_is_remembered_is_what_the_file_says(tiny: Model) -> None:
    model = tiny()
    statistics = FeatureStatistics(Twin.from_model(load(model)))
    _, (layer,) = statistics.run(images())
    assert statistics.names == (layer.name,) == ("bn",)
    weights = weights_of(model)
    torch.testing.assert_close(layer.running_mean.double(), weights["bn.mean"])
    torch.testing.assert_close(layer.running_var.double(), weights["bn.var"])


def test_a_tensor_that_two_layers_normalize_counts_for_both(model_of: Model) -> None:
    def vector(*values: float) -> np.ndarray:
        return np.array(values, np.float32)

    ones = vector(1, 1)
    nodes = "a = BatchNormalization(x, s, z, m, s) b = BatchNormalization(x, s, z, n, v) y = Add(a, b)"
    weights = {"s": ones, "z": vector(0, 0), "m": vector(0, 0), "n": vector(1, 2), "v": vector(4, 9)}
    model = model_of("float[n,2,3,3] x", "float[n,2,3,3] y", nodes, weights)
    given = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    _, (first, second) = FeatureStatistics(Twin.from_model(load(model))).run(given)
    torch.testing.assert_close(first.mean, given.mean((0, 2, 3)))
    torch.testing.assert_close(second.mean, first.mean)
    assert second.running_mean.tolist() == [1, 2]
    (first.mean.sum() + 3 * second.mean.sum()).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(given.grad, torch.full_like(given, 4 / 36))


def layer(mean: list[float], var: list[float], running_mean: list[float], running_var: list[float]) -> LayerStatistics:
    return LayerStatistics(
        "bn", *(torch.tensor(row, dtype=torch.float32) for row in (running_mean, running_var, mean, var))
    )


def test_feature_distance_by_hand() -> None:
    first = layer([3, 4], [1, 1], [0, 0], [1, 1])  # 5 from the means
    second = layer([1, 1], [1, 14], [1, 1], [6, 2])  # 13 from the variances
    assert feature_distance([first, second], 1).item() == pytest.approx(18)
    assert feature_distance([first, second], 10).item() == pytest.approx(63)


def test_relative_distance_by_hand() -> None:
    # Channel 1: two standard deviations off and half as wide; channel 2 matches; channel 3 was constant.
    first = layer([5, 1, 9], [1, 9, 4], [1, 1, 0], [4, 9, 1e-12])
    second = layer([0], [4], [0], [1])  # twice as wide
    assert relative_distance([first]) == pytest.approx((4 / 2 + 0.5 + 0) / 2)
    assert relative_distance([first, second]) == pytest.approx((1.25 + 1) / 2)


def test_mean_squares_by_hand() -> None:
    first = layer([3, 4], [1, 1], [0, 0], [1, 3])  # 25 / 2 and 4 / 2
    second = layer([1], [6], [2], [2])  # 1 and 16
    assert mean_squares([first, second]).item() == pytest.approx((12.5 + 2 + 1 + 16) / 2)
