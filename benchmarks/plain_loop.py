"""What ours is compared with: descent as one writes it first, in float32, contiguous, on torch's own operators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.inversion.loop import Stage
from dfq_deploy.synthesis.inversion.objective import LossWeights
from dfq_deploy.synthesis.losses.image_priors import image_norm, total_variation_l2
from dfq_deploy.twin import Hook, Twin

__all__ = ["Measured", "PlainLoop", "Seen", "deepinversion", "hast", "zeroq"]


@dataclass(frozen=True)
class Measured:
    """One BatchNormalization's input: what it has and what it should have."""

    mean: Tensor
    var: Tensor
    running_mean: Tensor
    running_var: Tensor


@dataclass(frozen=True)
class Seen:
    """What a loss takes: the images, the teacher's scores and every layer, and the targets."""

    images: Tensor
    scores: Tensor
    layers: list[Measured]
    targets: Tensor


PlainLoss: TypeAlias = Callable[[Seen], Tensor]


class PlainLoop:
    """Adam on the pixels, without any of what makes ours fast.

    Args:
        loss: of one teacher; the mean over all of them is descended.
        axes: that the statistics are taken over, (0, 2, 3) or (2, 3).
    """

    def __init__(
        self, twins: Sequence[Twin], loss: PlainLoss, request: SynthesisRequest, stage: Stage, axes: tuple[int, ...]
    ) -> None:
        self.twins, self.loss, self.stage, self.axes = twins, loss, stage, axes
        for twin in twins:
            for step in twin.steps:
                if step.op_type == "BatchNormalization":
                    twin.replace(step.name, torch_batch_norm)
                elif step.op_type == "Clip":
                    twin.replace(step.name, torch.clamp)
        self.generator = torch.Generator().manual_seed(0)
        start = torch.randn(request.count, *request.shape, generator=self.generator)
        self.images = start.to(request.device).requires_grad_()
        self.targets = torch.arange(request.count, device=request.device) % (request.classes or 1)
        self.optimizer = torch.optim.Adam([self.images], lr=0.1)

    def iterate(self, count: int) -> None:
        """Run ``count`` iterations."""
        for _ in range(count):
            self.optimizer.zero_grad()
            images = self._augmented()
            losses = [self.loss(self._seen(twin, images)) for twin in self.twins]
            (torch.stack(losses).sum() / len(losses)).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def _augmented(self) -> Tensor:
        images = self.images
        if self.stage.jitter:
            reach = self.stage.jitter
            down, right = torch.randint(-reach, reach + 1, (2,), generator=self.generator).tolist()
            images = torch.roll(images, (down, right), dims=(2, 3))
        return images.flip(3) if self.stage.flip and torch.rand((), generator=self.generator) < 0.5 else images

    def _seen(self, twin: Twin, images: Tensor) -> Seen:
        norms = [step for step in twin.steps if step.op_type == "BatchNormalization"]
        found: dict[str, tuple[Tensor, Tensor]] = {}
        hooks: dict[str, Hook] = {step.inputs[0]: measuring(step.inputs[0], self.axes, found) for step in norms}
        scores = twin.run({twin.input_names[0]: images}, hooks=hooks)[twin.output_names[0]]
        layers = []
        for step in norms:
            var, mean = found[step.inputs[0]]
            layers.append(Measured(mean, var, twin.initializer(step.inputs[3]), twin.initializer(step.inputs[4])))
        return Seen(images, scores.flatten(1), layers, self.targets)


def torch_batch_norm(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """BatchNormalization as torch has it."""
    return torch.nn.functional.batch_norm(x, mean, var, scale, bias)


def measuring(name: str, axes: tuple[int, ...], found: dict[str, tuple[Tensor, Tensor]]) -> Hook:
    """A hook that notes variance and mean."""

    def measure(features: Tensor) -> Tensor:
        found[name] = torch.var_mean(features, axes, correction=0)
        return features

    return measure


def deepinversion(weights: LossWeights) -> PlainLoss:
    """DeepInversion's loss."""

    def loss(seen: Seen) -> Tensor:
        feature = torch.zeros((), device=seen.images.device)
        for index, layer in enumerate(seen.layers):
            distance = torch.linalg.vector_norm(layer.mean - layer.running_mean)
            distance = distance + torch.linalg.vector_norm(layer.var - layer.running_var)
            feature = feature + (weights.first_multiplier if index == 0 else 1.0) * distance
        total = torch.nn.functional.cross_entropy(seen.scores, seen.targets) + weights.feature_weight * feature
        return total + weights.l2 * image_norm(seen.images) + weights.tv_l2 * total_variation_l2(seen.images)

    return loss


def zeroq(seen: Seen) -> Tensor:
    """ZeroQ's loss; the statistics are those of each image."""
    var, mean = torch.var_mean(seen.images, (2, 3), correction=0)
    total = mean.square().sum(1).mean() + (var.sqrt() - 1).square().sum(1).mean()
    for layer in seen.layers:
        total = total + (layer.mean - layer.running_mean).square().sum(1).mean()
        total = total + ((layer.var + 1e-6).sqrt() - (layer.running_var + 1e-6).sqrt()).square().sum(1).mean()
    return total


def hast(seen: Seen) -> Tensor:
    """HAST's loss, with the weights of its CIFAR-10 runs."""
    each = torch.nn.functional.cross_entropy(seen.scores, seen.targets, reduction="none")
    reached = torch.softmax(seen.scores, 1).gather(1, seen.targets[:, None])[:, 0]
    total = 10 * ((1 - reached).square() * each).mean()
    for layer in seen.layers:
        errors = (layer.mean - layer.running_mean).square().mean() + (layer.var - layer.running_var).square().mean()
        total = total + errors / len(seen.layers)
    return total
