"""The inversion loop shared by all methods that optimize samples by gradient descent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from dfq_deploy.errors import SamplesError
from dfq_deploy.progress import SILENT, Progress

__all__ = ["AfterIteration", "ImageParameters", "Inversion", "Loss", "Objective", "Stage", "work_of"]

AfterIteration: TypeAlias = Callable[[int, Tensor], bool]
"""Called after each iteration with the number of finished iterations and the current images (N, ...), detached and not
copied; returning True ends the inversion."""

REPORT_EVERY = 10
"""Iterations between two readings of the figures: each reading synchronizes with the GPU."""


@dataclass(frozen=True)
class Stage:
    """A number of iterations at one resolution.

    Args:
        iterations: number of steps.
        shrink: factor by which the images are downscaled (average pooling) before they are passed to the teacher.
        jitter: maximum random shift along each axis, in pixels of the downscaled image.
        flip: flip the batch horizontally with probability 0.5 in each iteration.
    """

    iterations: int
    shrink: int = 1
    jitter: int = 0
    flip: bool = False


def work_of(stages: Sequence[Stage], steps: int | None = None) -> int:
    """The work of the first ``steps`` iterations, by default of all, for progress and the time left.

    The unit is an iteration at the lowest resolution: one at twice the width and height is the work of four.
    """
    coarsest = max((stage.shrink for stage in stages), default=1)
    left = sum(stage.iterations for stage in stages) if steps is None else steps
    work = 0
    for stage in stages:
        taken = min(left, stage.iterations)
        work += taken * (coarsest // stage.shrink) ** 2
        left -= taken
    return work


@dataclass(frozen=True, eq=False)
class Loss:
    """The loss of one iteration.

    Args:
        total: the scalar to minimise, with gradient.
        figures: returns the values to display, by name; calling it synchronizes with the device.
    """

    total: Tensor
    figures: Callable[[], dict[str, float]]


class Objective(Protocol):
    """The loss function of an inversion."""

    def loss(self, images: Tensor, generator: torch.Generator) -> Loss:
        """The loss of the images (N, ...) as they are passed to the teachers."""
        ...

    def evaluate(self, images: Tensor) -> tuple[Tensor | None, dict[str, float]]:
        """Soft labels (N, K) of the final images, None if the model does not classify, and the metrics to report."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Sentences for the report on how the batch was run; none by default."""
        return ()

    def state(self) -> dict[str, Any]:
        """What the loss of the next iteration depends on beside the images; empty by default."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned; by default there is none."""
        del state


class ImageParameters(Protocol):
    """The parameters that are optimized: the pixels themselves, or the inputs and weights of a generator."""

    def images(self) -> Tensor:
        """The images (N, ...), differentiable with respect to the parameters."""
        ...

    def begin(self, iterations: int) -> None:
        """Begin a stage of ``iterations`` iterations with new optimizers."""
        ...

    def descend(self, loss: Tensor) -> None:
        """Take one optimizer step along the gradient of ``loss``."""
        ...

    def state(self) -> dict[str, Any]:
        """Copies of the parameters and of the state of their optimizers."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned; the stage that it belongs to has already begun."""
        ...


class Inversion:
    """The inversion of one batch by gradient descent.

    Args:
        method: name of the method, for error messages.
        parameters: what is optimized.
        objective: the loss function.
        stages: in order.
        generator: source of random shifts and flips, and of the random numbers of the objective.

    Attributes:
        step: number of finished iterations, over all stages.
        iterations: total number of iterations of all stages.
        work: the work of all iterations (:func:`work_of`).
    """

    def __init__(
        self,
        method: str,
        parameters: ImageParameters,
        objective: Objective,
        stages: Sequence[Stage],
        generator: torch.Generator,
    ) -> None:
        self.method, self.parameters, self.objective = method, parameters, objective
        self.stages, self.generator = tuple(stages), generator
        self.iterations, self.work = sum(stage.iterations for stage in stages), work_of(stages)
        self.step = 0

    def run(self, progress: Progress = SILENT, after: AfterIteration | None = None) -> None:
        """Run from the current step to the end of the last stage, or until ``after`` returns True.

        Raises:
            SamplesError: the images became NaN.
        """
        while self.step < self.iterations:
            stage, index = self._position()
            if index == 0:
                self.parameters.begin(stage.iterations)
            images = self.parameters.images()
            loss = self.objective.loss(self._augmented(images, stage), self.generator)
            self.parameters.descend(loss.total)
            self.step += 1
            report = self.step % REPORT_EVERY == 0 or self.step == self.iterations
            work = work_of(self.stages, self.step) - work_of(self.stages, self.step - 1)
            progress.advance(work, **(loss.figures() if report else {}))
            if after is not None and after(self.step, images.detach()):
                break
        if not torch.isfinite(self.images).all():
            raise SamplesError(f"{self.method}: the images became NaN; lower learning_rate or the losses' weights")

    @property
    def images(self) -> Tensor:
        """The current images, without gradient."""
        with torch.no_grad():
            return self.parameters.images().detach()

    def state(self) -> dict[str, Any]:
        """Everything that is needed to resume, as copies: plain values and tensors, for ``torch.save``."""
        return {
            "step": self.step,
            "canvas": self.parameters.state(),
            "generator": self.generator.get_state(),
            "objective": self.objective.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state of an inversion that was created with the same arguments."""
        self.step = int(state["step"])
        stage, index = self._position()
        if index:
            self.parameters.begin(stage.iterations)
        self.parameters.restore(state["canvas"])
        self.generator.set_state(state["generator"])
        self.objective.restore(state.get("objective", {}))

    def _position(self) -> tuple[Stage, int]:
        """The stage of the next iteration, and the number of its iterations that are finished."""
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
