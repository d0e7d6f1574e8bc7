"""The inversion loop that every method of gradient descent on samples shares."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from dfq_deploy.errors import SamplesError
from dfq_deploy.progress import SILENT, Progress

__all__ = ["After", "ImageParameters", "Inversion", "Loss", "Objective", "Stage"]

After: TypeAlias = Callable[[int, Tensor], bool]
"""Called after each iteration with the number of iterations done and the images (N, ...) as they are, without gradient
and not copied; True ends the descent."""

SHOWN_EVERY = 10
"""Iterations from one reading of the figures to the next: a GPU stands still for each."""


@dataclass(frozen=True)
class Stage:
    """A run of iterations at one resolution.

    Args:
        iterations: number of steps.
        shrink: the images are averaged over shrink x shrink pixels before the teacher sees them.
        jitter: largest shift in pixels of the shrunk image, along each axis.
        flip: mirror the batch in every other iteration, at random.
    """

    iterations: int
    shrink: int = 1
    jitter: int = 0
    flip: bool = False


@dataclass(frozen=True, eq=False)
class Loss:
    """What one iteration minimises.

    Args:
        total: a scalar with gradient.
        figures: the numbers to show, by name; reading them waits for the device.
    """

    total: Tensor
    figures: Callable[[], dict[str, float]]


class Objective(Protocol):
    """What the images of one batch should be like."""

    def loss(self, seen: Tensor, generator: torch.Generator) -> Loss:
        """Of the images (N, ...) as the teachers see them."""
        ...

    def judge(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """Soft labels (N, K) of finished images, where there are classes, and what is to be reported of the batch."""
        ...


class ImageParameters(Protocol):
    """What descends, pixels or something that images are made from."""

    def images(self) -> Tensor:
        """(N, ...), with gradient to what descends."""
        ...

    def begin(self, iterations: int) -> None:
        """Start a stage with fresh optimizers."""
        ...

    def descend(self, loss: Tensor) -> None:
        """One step along the gradient of ``loss``."""
        ...

    def state(self) -> dict[str, Any]:
        """Copies of what descends and of its optimizers."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state that :meth:`state` gave back; the stage that it is of has begun."""
        ...


class Inversion:
    """The descent of one batch.

    Args:
        method: whose it is, for errors.
        generator: of shifts, flips and whatever the objective draws.

    Attributes:
        step: number of iterations done, over all stages.
        iterations: number of iterations of all stages.
    """

    def __init__(
        self,
        method: str,
        canvas: ImageParameters,
        objective: Objective,
        stages: Sequence[Stage],
        generator: torch.Generator,
    ) -> None:
        self.method, self.canvas, self.objective = method, canvas, objective
        self.stages, self.generator = tuple(stages), generator
        self.iterations = sum(stage.iterations for stage in stages)
        self.step = 0

    def run(self, progress: Progress = SILENT, after: After | None = None) -> None:
        """Go on from where it stands to the end of the last stage, or until ``after`` says stop.

        Raises:
            SamplesError: the images became NaN.
        """
        while self.step < self.iterations:
            stage, index = self._position()
            if index == 0:
                self.canvas.begin(stage.iterations)
            images = self.canvas.images()
            loss = self.objective.loss(self._augmented(images, stage), self.generator)
            self.canvas.descend(loss.total)
            self.step += 1
            shown = self.step % SHOWN_EVERY == 0 or self.step == self.iterations
            progress.advance(1, **(loss.figures() if shown else {}))
            if after is not None and after(self.step, images.detach()):
                break
        if not torch.isfinite(self.images).all():
            raise SamplesError(f"{self.method}: the images became NaN; lower learning_rate or the losses' weights")

    @property
    def images(self) -> Tensor:
        """The images as they are, without gradient."""
        with torch.no_grad():
            return self.canvas.images().detach()

    def state(self) -> dict[str, Any]:
        """Everything that goes on where it stopped, as copies: plain values and tensors, for ``torch.save``."""
        return {"step": self.step, "canvas": self.canvas.state(), "generator": self.generator.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state of an inversion that was made with the same arguments."""
        self.step = int(state["step"])
        stage, index = self._position()
        if index:
            self.canvas.begin(stage.iterations)
        self.canvas.restore(state["canvas"])
        self.generator.set_state(state["generator"])

    def _position(self) -> tuple[Stage, int]:
        """The stage of the next iteration, and how many of its iterations are done."""
        index = self.step
        for stage in self.stages:
            if index < stage.iterations:
                return stage, index
            index -= stage.iterations
        return self.stages[-1], self.stages[-1].iterations

    def _augmented(self, images: Tensor, stage: Stage) -> Tensor:
        if images.ndim != 4:
            return images
        if stage.shrink > 1:
            images = torch.nn.functional.avg_pool2d(images, stage.shrink)
        if stage.jitter:
            down, right = torch.randint(-stage.jitter, stage.jitter + 1, (2,), generator=self.generator).tolist()
            images = torch.roll(images, (down, right), dims=(2, 3))
        if stage.flip and torch.rand((), generator=self.generator) < 0.5:
            images = images.flip(3)
        return images
