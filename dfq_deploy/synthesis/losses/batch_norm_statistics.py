"""Distance to BatchNormalization's running statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from dfq_deploy.graph.operators import is_op
from dfq_deploy.twin import Hook, Twin

__all__ = [
    "BatchMoments",
    "FeatureStatistics",
    "LayerStatistics",
    "batch_moments",
    "feature_distance",
    "mean_squares",
    "relative_distance",
]

BatchMoments: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Returns the features (N, C, ...) unchanged, and their mean and biased variance with gradients."""


class _Measure(torch.autograd.Function):
    """Return the features unchanged, and their mean and biased variance per channel.

    A single node in the autograd graph with kernels that are fast for channels-last bfloat16, where
    torch.var_mean over N, H, W takes 10 to 30 times as long.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = _moments(features)
        ctx.save_for_backward(features, mean)
        return features.view_as(features), mean, var

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor, grad_mean: Tensor, grad_var: Tensor) -> Tensor:
        features, mean = ctx.saved_tensors  # type: ignore[attr-defined]
        count = features.numel() // features.shape[1]
        # d mean / d x = 1 / n and d var / d x = 2 (x - mean) / n, channel by channel; batch_norm with
        # mean 0, variance 1 and epsilon 0 is the fastest available multiply-add per channel.
        slope = 2 * grad_var / count
        offset = grad_mean / count - slope * mean
        zero, one = torch.zeros_like(mean), torch.ones_like(mean)
        through = torch.nn.functional.batch_norm(features, zero, one, slope, offset, training=False, eps=0.0)
        return through.add_(grad)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over all axes but the channel, float32 (C,)."""
    if features.device.type == "cpu":
        channels = torch.zeros(features.shape[1], dtype=torch.float32)
        mean, var = torch.ops.aten.batch_norm_update_stats(features, channels, channels.clone(), 0.0)
        return mean, var
    axes = [axis for axis in range(features.ndim) if axis != 1]
    var, mean = torch.var_mean(features.float(), axes, correction=0)
    return mean, var


def batch_moments(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The features (N, C, ...) themselves, and float32 (C,) mean and biased variance over the batch with gradients."""
    passed, mean, var = _Measure.apply(features)  # type: ignore[no-untyped-call]
    return passed, mean, var


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """The running statistics of one BatchNormalization, and the batch statistics of its input.

    Args:
        name: name of the node.
        running_mean, running_var: float32 (C,), from training.
        mean, var: float32 (C,), statistics of the input over (N, H, W), biased, with gradients; (N, C) if they are
            computed per image.
    """

    name: str
    running_mean: Tensor
    running_var: Tensor
    mean: Tensor
    var: Tensor


class FeatureStatistics:
    """Computes the statistics of the input of every BatchNormalization during a forward pass of a twin.

    Args:
        twin: in inference form.
        moments: computes mean and variance of the features, over the batch (default) or per image.

    Attributes:
        names: names of the BatchNormalization nodes, in order.
    """

    def __init__(self, twin: Twin, moments: BatchMoments | None = None) -> None:
        self._twin, self._moments = twin, moments or batch_moments
        self._layers = [step for step in twin.steps if is_op(step, "BatchNormalization")]
        self.names = tuple(step.name for step in self._layers)

    def run(self, images: Tensor) -> tuple[Tensor, list[LayerStatistics]]:
        """Run the twin on images (N, C, H, W); return its first output and the statistics of each layer, in order."""
        measured: dict[str, tuple[Tensor, Tensor]] = {}

        def recorder(name: str) -> Hook:
            def record(features: Tensor) -> Tensor:
                features, mean, var = self._moments(features)
                measured[name] = (mean, var)
                return features

            return record

        twin = self._twin
        hooks = {step.inputs[0]: recorder(step.inputs[0]) for step in self._layers}
        outputs = twin.run({twin.input_names[0]: images}, hooks=hooks)
        layers = [
            LayerStatistics(
                step.name,
                twin.initializer(step.inputs[3]),
                twin.initializer(step.inputs[4]),
                *measured[step.inputs[0]],
            )
            for step in self._layers
        ]
        return outputs[twin.output_names[0]], layers


def feature_distance(layers: Sequence[LayerStatistics], first_multiplier: float) -> Tensor:
    """DeepInversion's feature regularisation (Yin et al. 2020, equation 4): the sum over the layers of
    ``||var - running_var||_2 + ||mean - running_mean||_2``; the first layer counts ``first_multiplier`` times.
    """
    norms: Tensor = torch.stack(
        [
            torch.linalg.vector_norm(layer.var - layer.running_var)
            + torch.linalg.vector_norm(layer.mean - layer.running_mean)
            for layer in layers
        ]
    )
    total: Tensor = norms.sum() + (first_multiplier - 1) * norms[0]
    return total


def mean_squares(layers: Sequence[LayerStatistics]) -> Tensor:
    """The mean over the layers of the mean squared error of the mean plus that of the variance.

    Xu et al., "GDFQ", 2020, equation 5; also used by DFQF, Qimera and HAST.
    """
    errors = [
        (layer.mean - layer.running_mean).square().mean() + (layer.var - layer.running_var).square().mean()
        for layer in layers
    ]
    total: Tensor = torch.stack(errors).mean()
    return total


@torch.no_grad()
def relative_distance(layers: Sequence[LayerStatistics]) -> float:
    """Distance of the batch from the training data: the mean over layers and channels of
    ``|mean - running_mean| / running_std + |std / running_std - 1|``; 0 is a perfect match.

    Channels that were constant in training (standard deviation below 1e-3 of the layer's largest) are ignored.
    """
    distances = []
    for layer in layers:
        std = layer.running_var.sqrt()
        alive = std > 1e-3 * std.max()
        shift = (layer.mean - layer.running_mean).abs() / std
        stretch = (layer.var.clamp_min(0).sqrt() / std - 1).abs()
        distances.append((shift + stretch)[alive].mean())
    return float(torch.stack(distances).mean())
