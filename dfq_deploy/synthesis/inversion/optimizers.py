"""Adam, its learning rates, and the pixels that it moves."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol

import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.inversion.loop import ImageParameters

__all__ = ["Cosine", "Decay", "Descent", "Pixels", "Plateau", "Rate", "noise", "pixel_bounds"]


class Rate(Protocol):
    """A learning rate, iteration by iteration."""

    def before(self, step: int) -> float | Tensor:
        """The rate of iteration ``step``, counted from 0."""
        ...

    def after(self, loss: Tensor) -> None:
        """Take note of the loss of the iteration."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What it remembers, as copies."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the state that :meth:`state` gave back."""
        ...


class _Forgetful(Rate):
    """A rate that the number of the iteration alone decides."""

    def after(self, loss: Tensor) -> None:
        """Take no note."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to take."""


class Cosine(_Forgetful):
    """Linear warm-up over 100 iterations (a tenth of short stages), then a cosine from ``peak`` to zero."""

    def __init__(self, peak: float, iterations: int) -> None:
        self.peak, self.iterations = peak, iterations
        self.warm = min(100, iterations // 10)

    def before(self, step: int) -> float:
        """The rate of iteration ``step``."""
        cosine = 0.5 * (1 + math.cos(math.pi * max(step - self.warm, 0) / max(self.iterations - self.warm, 1)))
        return self.peak * (min(1.0, (step + 1) / self.warm) if self.warm else 1.0) * cosine


class Decay(_Forgetful):
    """``start * factor ** (step // every)``."""

    def __init__(self, start: float, factor: float, every: int) -> None:
        self.start, self.factor, self.every = start, factor, every

    def before(self, step: int) -> float:
        """The rate of iteration ``step``."""
        return float(self.start * self.factor ** (step // self.every))


class Plateau(Rate):
    """A tenth of the rate whenever the loss has not fallen for more than ``patience`` iterations.

    It falls where it is under 0.9999 of the least one so far. All of it stays on the device, so that a GPU need not
    wait for the loss of each iteration.

    Args:
        start: the first rate.
        patience: iterations without a fall that are borne.
        floor: the least rate.
    """

    def __init__(self, start: float, patience: int, floor: float, device: torch.device) -> None:
        self.patience, self.floor = patience, floor
        self.rate = torch.tensor(start, device=device)
        self.best = torch.tensor(math.inf, device=device)
        self.bad = torch.tensor(0, device=device)

    def before(self, step: int) -> Tensor:
        """The rate as the losses have left it."""
        return self.rate

    @torch.no_grad()
    def after(self, loss: Tensor) -> None:
        """Take note of the loss."""
        loss = loss.detach()
        falls = loss < self.best * (1 - 1e-4)
        self.best.copy_(torch.where(falls, loss, self.best))
        self.bad.copy_(torch.where(falls, 0, self.bad + 1))
        tired = self.bad > self.patience
        self.rate.copy_(torch.where(tired, (self.rate * 0.1).clamp_min(self.floor), self.rate))
        self.bad.mul_(~tired)

    def state(self) -> dict[str, Tensor]:
        """Rate, least loss and iterations without a fall."""
        return {"rate": self.rate.clone(), "best": self.best.clone(), "bad": self.bad.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the state that :meth:`state` gave back."""
        for name, tensor in self.state().items():
            getattr(self, name).copy_(state[name].to(tensor.dtype))


class Descent:
    """Adam on some tensors, at a rate.

    Args:
        betas: Adam's.
    """

    def __init__(self, parameters: Sequence[Tensor], rate: Rate, betas: tuple[float, float]) -> None:
        self.rate, self.taken = rate, 0
        self.adam = torch.optim.Adam(parameters, lr=rate.before(0), betas=betas, eps=1e-8, fused=True)

    def step(self, loss: Tensor) -> None:
        """One step along the gradients that are there, and forget them."""
        self.adam.param_groups[0]["lr"] = self.rate.before(self.taken)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.rate.after(loss)
        self.taken += 1

    def state(self) -> dict[str, Any]:
        """Adam's moments, the rate's memory and the number of steps."""
        return {"adam": deepcopy(self.adam.state_dict()["state"]), "rate": self.rate.state(), "taken": self.taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state that :meth:`state` gave back."""
        groups = self.adam.state_dict()["param_groups"]
        self.adam.load_state_dict({"state": deepcopy(state["adam"]), "param_groups": groups})
        self.rate.restore(state["rate"])
        self.taken = int(state["taken"])


class Pixels(ImageParameters):
    """Images that descend themselves.

    Args:
        start: the first images (N, ...), on their device; taken over, not copied.
        rate: makes the learning rate of a stage of so many iterations.
        betas: Adam's.
        bounds: least and greatest value, broadcast over the images; None leaves them free.
        space: mean and standard deviation of images where they are not 0 and 1: ``start`` and the steps are in units of
            them, and so is what descends.
    """

    def __init__(
        self,
        start: Tensor,
        rate: Callable[[int], Rate],
        betas: tuple[float, float],
        bounds: tuple[Tensor, Tensor] | None,
        space: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.pixels = start.requires_grad_()
        self.rate, self.betas, self.space = rate, betas, space
        self.bounds = bounds
        if bounds is not None and space is not None:
            self.bounds = ((bounds[0] - space[0]) / space[1], (bounds[1] - space[0]) / space[1])
        self.descent: Descent | None = None

    def images(self) -> Tensor:
        """The pixels, in the input space."""
        return self.pixels if self.space is None else torch.addcmul(self.space[0], self.pixels, self.space[1])

    def begin(self, iterations: int) -> None:
        """Start a stage with a fresh Adam."""
        self.descent = Descent([self.pixels], self.rate(iterations), self.betas)

    def descend(self, loss: Tensor) -> None:
        """One step, and back within the bounds."""
        assert self.descent is not None
        loss.backward()  # type: ignore[no-untyped-call]
        self.descent.step(loss)
        if self.bounds is not None:
            with torch.no_grad():
                self.pixels.clamp_(*self.bounds)

    def state(self) -> dict[str, Any]:
        """The pixels and Adam."""
        descent = None if self.descent is None else self.descent.state()
        return {"pixels": self.pixels.detach().clone(), "descent": descent}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state that :meth:`state` gave back."""
        with torch.no_grad():
            self.pixels.copy_(state["pixels"])
        if state["descent"] is not None and self.descent is not None:
            self.descent.restore(state["descent"])


def noise(size: int, request: SynthesisRequest, generator: torch.Generator) -> Tensor:
    """(size, ...) from N(0, 1), on the request's device, images in channels-last layout."""
    start = torch.randn(size, *request.shape, generator=generator)
    layout = torch.channels_last if start.ndim == 4 else torch.contiguous_format
    return start.to(torch.device(request.device), memory_format=layout)


def pixel_bounds(request: SynthesisRequest) -> tuple[Tensor, Tensor] | None:
    """What black and white pixels are in the input space, two (C, 1, 1); None where nothing is known of it."""
    if request.preprocess is None or len(request.shape) != 3:
        return None
    low, high = (
        torch.from_numpy(bound)[:, None, None].to(request.device)
        for bound in request.preprocess.bounds(request.shape[0])
    )
    return low, high
