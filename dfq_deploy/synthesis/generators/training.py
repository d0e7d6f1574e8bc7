"""Train a generator on its teacher and draw from it."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from dfq_deploy.errors import SamplesError, one_line
from dfq_deploy.plugins.contracts import Source, Student
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.synthesis.losses.batch_norm_statistics import FeatureStatistics, LayerStatistics
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import autocast

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Journal

__all__ = ["GeneratorSource", "GeneratorStep", "Loss", "Sampler", "Training", "draw_classes", "normal", "shares"]

REPORT_EVERY = 20
"""Steps between two readings of the losses: each makes a GPU wait."""


class Sampler(nn.Module):
    """A generator with what it is fed: draws its own latents."""

    @abstractmethod
    def forward(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Images (count, C, H, W), and soft labels (count, K) where it is told what to make."""


@dataclass(frozen=True, eq=False)
class GeneratorStep:
    """One generated batch, as the teacher sees it.

    Args:
        images: (N, C, H, W) in the model's input space.
        labels: soft labels (N, K), where the generator was told them.
        scores: the teacher's logits (N, K), float32.
        layers: the statistics of every BatchNormalization's input.
    """

    images: Tensor
    labels: Tensor | None
    scores: Tensor
    layers: Sequence[LayerStatistics]


Loss: TypeAlias = Callable[[GeneratorStep, Sequence[Tensor]], tuple[Tensor, dict[str, Tensor]]]
"""The batch and each student's logits on it, to what is minimised and its terms by name."""


@dataclass(frozen=True)
class Training:
    """How generators are trained: Adam with betas 0.5 and 0.999.

    Args:
        batch: images of one step, of each generator.
        learning_rate: at the start.
        milestones: steps after which it is divided by ten.
    """

    batch: int
    learning_rate: float
    milestones: tuple[int, ...] = ()

    def rate(self, step: int) -> float:
        """The learning rate of the step ``step``, counted from 0."""
        return self.learning_rate * 0.1 ** sum(step >= milestone for milestone in self.milestones)


class GeneratorSource(Source):
    """One or more generators, trained together; each makes an equal share of what is drawn.

    Args:
        samplers: on the teacher's device.
        teacher: in inference form.
        loss: what each generator minimises.
        training: batch size and learning rate.
        uses_students: False where no student changes the loss: none is run then.
    """

    def __init__(
        self,
        samplers: Sequence[Sampler],
        teacher: Twin,
        loss: Loss,
        training: Training,
        *,
        uses_students: bool = True,
    ) -> None:
        self.samplers = nn.ModuleList(samplers)
        self.statistics = FeatureStatistics(teacher)
        self.loss, self.training, self.steps = loss, training, 0
        self.uses_students = uses_students
        self._parameters = [parameter for parameter in self.samplers.parameters() if parameter.requires_grad]
        self.device = self._parameters[0].device
        self.optimizer = torch.optim.Adam(self._parameters, lr=training.learning_rate, betas=(0.5, 0.999), fused=True)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Samples in the order of the generators' turns; normalisations use their running statistics, so that a
        sample does not depend on the others.
        """
        self.samplers.eval()
        drawn: list[tuple[Tensor, Tensor | None]] = []
        for sampler, share in zip(self.samplers, shares(count, len(self.samplers)), strict=True):
            for size in shares(share, math.ceil(share / self.training.batch)):
                with autocast(self.device):
                    drawn.append(sampler(size, generator))
        labels = [label for _, label in drawn if label is not None]
        images = torch.cat([image for image, _ in drawn])
        if len(self.samplers) == 1:
            return images, torch.cat(labels) if labels else None
        order = torch.randperm(count, generator=generator, device=generator.device).to(self.device)
        return images[order], torch.cat(labels)[order] if labels else None

    def adapt(self, students: Sequence[Student], generator: torch.Generator) -> dict[str, float]:
        """One step of every generator; the terms of its loss, averaged over the generators."""
        return _read(self.step(students if self.uses_students else (), generator))

    def step(self, students: Sequence[Student], generator: torch.Generator) -> dict[str, Tensor]:
        """As :meth:`adapt`, without waiting for the figures."""
        self.samplers.train()
        self.optimizer.param_groups[0]["lr"] = self.training.rate(self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        collected: dict[str, list[Tensor]] = {}
        for sampler in self.samplers:
            seen = self._seen(sampler, generator, exact=bool(students))
            loss, terms = self.loss(seen, [student(seen.images).flatten(1).float() for student in students])
            # Gradients of the students belong to whoever trains them.
            loss.backward(inputs=self._parameters_of(sampler))  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                collected.setdefault(name, []).append(value.detach())
        self.optimizer.step()
        self.steps += 1
        return {name: torch.stack(values).mean() for name, values in collected.items()}

    def train(
        self,
        iterations: int,
        students: Sequence[Student],
        generator: torch.Generator,
        progress: Progress = SILENT,
        journal: "Journal | None" = None,
    ) -> None:
        """``iterations`` steps; ``journal`` is told now and then where they stand.

        Raises:
            SamplesError: a loss became NaN or infinite.
        """
        for size in [REPORT_EVERY] * (iterations // REPORT_EVERY) + [iterations % REPORT_EVERY]:
            if not size:
                continue
            for _ in range(size):
                terms = self.step(students, generator)
            figures = _read(terms)
            if not all(math.isfinite(value) for value in figures.values()):
                raise SamplesError(
                    f"the generator's losses are no longer finite after {self.steps} steps ({figures}); "
                    "lower --option learning_rate"
                )
            progress.advance(size, **figures)
            if journal is not None and journal.is_due():
                journal.save_state({"source": self.state(), "generator": generator.get_state()})

    def look(self, images: Tensor, *, exact: bool = False) -> tuple[Tensor, list[LayerStatistics]]:
        """The teacher's logits (N, K), float32, and the statistics of its features.

        ``exact`` leaves the teacher in float32: rounding to bfloat16 changes its scores as much as eight bits do, and
        would pass for a difference between teacher and student.
        """
        with nullcontext() if exact else autocast(self.device):
            scores, layers = self.statistics.run(images)
        return scores.flatten(1).float(), layers

    def state(self) -> dict[str, Any]:
        """Weights, optimizer and number of steps, as they are now: further steps do not change them."""
        now = {"weights": self.samplers.state_dict(), "optimizer": self.optimizer.state_dict(), "steps": self.steps}
        return deepcopy(now)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state back; without ``optimizer`` in it, Adam starts anew.

        Raises:
            SamplesError: it belongs to generators of another shape.
        """
        try:
            self.samplers.load_state_dict(state["weights"])
            if "optimizer" in state:
                self.optimizer.load_state_dict(deepcopy(state["optimizer"]))
            self.steps = int(state["steps"])
        except (KeyError, RuntimeError, ValueError) as problem:
            reason = one_line(problem, 200)
            raise SamplesError(f"the generator's state does not fit this method and model: {reason}") from None

    def _seen(self, sampler: nn.Module, generator: torch.Generator, *, exact: bool) -> GeneratorStep:
        with autocast(self.device):
            images, labels = sampler(self.training.batch, generator)
        return GeneratorStep(images, labels, *self.look(images, exact=exact))

    def _parameters_of(self, sampler: nn.Module) -> list[nn.Parameter]:
        return [parameter for parameter in sampler.parameters() if parameter.requires_grad]


def _read(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """All numbers with one wait."""
    return dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True)) if terms else {}


def shares(count: int, parts: int) -> list[int]:
    """``count`` in ``parts`` whole numbers that differ by one at most."""
    return [count // parts + (index < count % parts) for index in range(parts)]


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """N(0, 1), drawn where ``generator`` lives."""
    return torch.randn(*shape, generator=generator, device=generator.device).to(device)


def draw_classes(count: int, classes: int, generator: torch.Generator, *, spread: bool) -> Tensor:
    """Classes (count,) int64 where ``generator`` lives: independent, or all equally often where ``spread``."""
    if not spread:
        return torch.randint(classes, (count,), generator=generator, device=generator.device)
    rounds = math.ceil(count / classes)
    orders = [torch.randperm(classes, generator=generator, device=generator.device) for _ in range(rounds)]
    return torch.cat(orders)[:count]
