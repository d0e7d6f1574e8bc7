"""Adam with learning-rate schedules, and pixels as parameters."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.inversion.loop import ImageParameters

__all__ = ["Cosine", "Decay", "LearningRate", "Pixels", "Plateau", "ScheduledAdam", "noise", "pixel_bounds"]


class LearningRate(Protocol):
    """A learning-rate schedule."""

    def at(self, step: int) -> float | Tensor:
        """The learning rate of iteration ``step``, counted from 0."""
        ...

    def update(self, loss: Tensor) -> None:
        """Update the schedule with the loss of the finished iteration."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Copies of the state of the schedule."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load the state that :meth:`state` returned."""
        ...


class _StepRate(LearningRate):
    """A schedule that depends on the iteration number only, and has no state."""

    def update(self, loss: Tensor) -> None:
        """Do nothing: the schedule does not depend on the loss."""

    def state(self) -> dict[str, Tensor]:
        """An empty state."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing: there is no state."""


class Cosine(_StepRate):
    """Linear warm-up over 100 iterations (a tenth of short stages), then cosine annealing from ``peak`` to zero."""

    def __init__(self, peak: float, iterations: int) -> None:
        self.peak, self.iterations = peak, iterations
        self.warmup = min(100, iterations // 10)

    def at(self, step: int) -> float:
        """The learning rate of iteration ``step``."""
        cosine = 0.5 * (1 + math.cos(math.pi * max(step - self.warmup, 0) / max(self.iterations - self.warmup, 1)))
        return self.peak * (min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0) * cosine


class Decay(_StepRate):
    """Step decay: ``start * factor ** (step // every)``."""

    def __init__(self, start: float, factor: float, every: int) -> None:
        self.start, self.factor, self.every = start, factor, every

    def at(self, step: int) -> float:
        """The learning rate of iteration ``step``."""
        return float(self.start * self.factor ** (step // self.every))


class Plateau(LearningRate):
    """Divide the learning rate by ten when the loss has not improved for more than ``patience`` iterations.

    A loss is an improvement if it is below 0.9999 of the smallest one so far. All values stay on the device, so that
    the loss of each iteration need not be read back from a GPU.

    Args:
        start: initial learning rate.
        patience: number of iterations without improvement that are allowed.
        floor: minimum learning rate.
        device: where the loss is computed.
    """

    def __init__(self, start: float, patience: int, floor: float, device: torch.device) -> None:
        self.patience, self.floor = patience, floor
        self.rate = torch.tensor(start, device=device)
        self.best = torch.tensor(math.inf, device=device)
        self.bad = torch.tensor(0, device=device)

    def at(self, step: int) -> Tensor:
        """The current learning rate."""
        return self.rate

    @torch.no_grad()
    def update(self, loss: Tensor) -> None:
        """Compare the loss with the smallest one so far, and reduce the rate on a plateau."""
        loss = loss.detach()
        improved = loss < self.best * (1 - 1e-4)
        self.best.copy_(torch.where(improved, loss, self.best))
        self.bad.copy_(torch.where(improved, 0, self.bad + 1))
        plateaued = self.bad > self.patience
        self.rate.copy_(torch.where(plateaued, (self.rate * 0.1).clamp_min(self.floor), self.rate))
        self.bad.mul_(~plateaued)

    def state(self) -> dict[str, Tensor]:
        """Learning rate, smallest loss and number of iterations without improvement."""
        return {"rate": self.rate.clone(), "best": self.best.clone(), "bad": self.bad.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load the state that :meth:`state` returned."""
        for name, tensor in self.state().items():
            getattr(self, name).copy_(state[name].to(tensor.dtype))


class ScheduledAdam:
    """Adam with a learning-rate schedule.

    Args:
        parameters: tensors to optimize.
        rate: the schedule.
        betas: of Adam.
    """

    def __init__(self, parameters: Sequence[Tensor], rate: LearningRate, betas: tuple[float, float]) -> None:
        self.rate, self.steps = rate, 0
        self.adam = torch.optim.Adam(parameters, lr=rate.at(0), betas=betas, eps=1e-8, fused=True)

    def step(self, loss: Tensor) -> None:
        """Take one step along the accumulated gradients, then clear them."""
        self.adam.param_groups[0]["lr"] = self.rate.at(self.steps)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.rate.update(loss)
        self.steps += 1

    def state(self) -> dict[str, Any]:
        """The moments of Adam, the state of the schedule and the number of steps."""
        return {"adam": deepcopy(self.adam.state_dict()["state"]), "rate": self.rate.state(), "taken": self.steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned."""
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": deepcopy(state["adam"]), "param_groups": groups})
        self.rate.restore(state["rate"])
        self.steps = int(state["taken"])


class Pixels(ImageParameters):
    """Pixels as the parameters of an inversion.

    Args:
        start: initial images (N, ...), on their device; used in place, not copied.
        rate: creates the learning-rate schedule of a stage from its number of iterations.
        betas: of Adam.
        bounds: minimum and maximum value, broadcast over the images; None leaves them unbounded.
        space: mean and standard deviation of images if they are not 0 and 1: ``start``, the parameters and the steps
            are normalised by them.
    """

    def __init__(
        self,
        start: Tensor,
        rate: Callable[[int], LearningRate],
        betas: tuple[float, float],
        bounds: tuple[Tensor, Tensor] | None,
        space: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.pixels = start.requires_grad_()
        self.rate, self.betas, self.space = rate, betas, space
        self.bounds = bounds
        if bounds is not None and space is not None:
            self.bounds = ((bounds[0] - space[0]) / space[1], (bounds[1] - space[0]) / space[1])
        self.descent: ScheduledAdam | None = None

    def images(self) -> Tensor:
        """The pixels in the input space of the model."""
        return self.pixels if self.space is None else torch.addcmul(self.space[0], self.pixels, self.space[1])

    def begin(self, iterations: int) -> None:
        """Begin a stage with a new Adam."""
        self.descent = ScheduledAdam([self.pixels], self.rate(iterations), self.betas)

    def descend(self, loss: Tensor) -> None:
        """Take one step, then clamp the pixels to the bounds."""
        assert self.descent is not None
        loss.backward()  # type: ignore[no-untyped-call]
        self.descent.step(loss)
        if self.bounds is not None:
            with torch.no_grad():
                self.pixels.clamp_(*self.bounds)

    def state(self) -> dict[str, Any]:
        """Copies of the pixels and of the state of Adam."""
        descent = None if self.descent is None else self.descent.state()
        return {"pixels": self.pixels.detach().clone(), "descent": descent}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned."""
        with torch.no_grad():
            self.pixels.copy_(state["pixels"])
        if state["descent"] is not None and self.descent is not None:
            self.descent.restore(state["descent"])


def noise(size: int, request: SynthesisRequest, generator: torch.Generator) -> Tensor:
    """Initial images (size, ...) from N(0, 1), on the device of the request, in channels-last memory format."""
    start = torch.randn(size, *request.shape, generator=generator)
    layout = torch.channels_last if start.ndim == 4 else torch.contiguous_format
    return start.to(torch.device(request.device), memory_format=layout)


def pixel_bounds(request: SynthesisRequest) -> tuple[Tensor, Tensor] | None:
    """The values of black and white pixels in the input space, two (C, 1, 1); None if the preprocess is not known."""
    if request.preprocess is None or len(request.shape) != 3:
        return None
    low, high = (
        torch.from_numpy(bound)[:, None, None].to(request.device)
        for bound in request.preprocess.bounds(request.shape[0])
    )
    return low, high
