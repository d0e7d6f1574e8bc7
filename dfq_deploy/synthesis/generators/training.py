"""Train generators against a teacher and draw samples from them."""

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

__all__ = [
    "GeneratorLoss",
    "GeneratorSource",
    "GeneratorStep",
    "GeneratorTraining",
    "Sampler",
    "draw_classes",
    "normal",
    "split_evenly",
]

REPORT_EVERY = 20
"""Steps between two readings of the losses: each reading synchronizes with the GPU."""


class Sampler(nn.Module):
    """A generator network that draws its own latent vectors."""

    @abstractmethod
    def forward(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Images (count, C, H, W), and soft labels (count, K) if the generator is conditional, else None."""


@dataclass(frozen=True, eq=False)
class GeneratorStep:
    """One generated batch and the outputs of the teacher on it.

    Args:
        images: (N, C, H, W) in the model's input space.
        labels: soft labels (N, K) that the generator was conditioned on, or None.
        scores: logits (N, K) of the teacher, float32.
        layers: statistics of the input of every BatchNormalization.
    """

    images: Tensor
    labels: Tensor | None
    scores: Tensor
    layers: Sequence[LayerStatistics]


GeneratorLoss: TypeAlias = Callable[[GeneratorStep, Sequence[Tensor]], tuple[Tensor, dict[str, Tensor]]]
"""Maps a batch and the logits of each student on it to the loss and its terms by name."""


@dataclass(frozen=True)
class GeneratorTraining:
    """Training settings of generators; the optimizer is Adam with betas 0.5 and 0.999.

    Args:
        batch: batch size of each generator.
        learning_rate: initial learning rate.
        milestones: steps at which it is divided by ten.
    """

    batch: int
    learning_rate: float
    milestones: tuple[int, ...] = ()

    def rate(self, step: int) -> float:
        """The learning rate of step ``step``, counted from 0."""
        return self.learning_rate * 0.1 ** sum(step >= milestone for milestone in self.milestones)


class GeneratorSource(Source):
    """One or more generators that are trained together; each draws an equal share of the samples.

    Args:
        samplers: the generators, on the teacher's device.
        teacher: in inference form.
        loss: the loss of each generator.
        training: batch size and learning rate.
        uses_students: False if the loss does not depend on students, which are then not run.
    """

    def __init__(
        self,
        samplers: Sequence[Sampler],
        teacher: Twin,
        loss: GeneratorLoss,
        training: GeneratorTraining,
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
        """Draw samples; normalisations use their running statistics, so that a sample does not depend on the others.

        The samples of several generators are shuffled.
        """
        self.samplers.eval()
        drawn: list[tuple[Tensor, Tensor | None]] = []
        for sampler, share in zip(self.samplers, split_evenly(count, len(self.samplers)), strict=True):
            for size in split_evenly(share, math.ceil(share / self.training.batch)):
                with autocast(self.device):
                    drawn.append(sampler(size, generator))
        labels = [label for _, label in drawn if label is not None]
        images = torch.cat([image for image, _ in drawn])
        if len(self.samplers) == 1:
            return images, torch.cat(labels) if labels else None
        order = torch.randperm(count, generator=generator, device=generator.device).to(self.device)
        return images[order], torch.cat(labels)[order] if labels else None

    def adapt(self, students: Sequence[Student], generator: torch.Generator) -> dict[str, float]:
        """Train every generator for one step; returns the terms of the loss, averaged over the generators."""
        return _read(self.step(students if self.uses_students else (), generator))

    def step(self, students: Sequence[Student], generator: torch.Generator) -> dict[str, Tensor]:
        """As :meth:`adapt`, without synchronizing with the device; returns tensors."""
        self.samplers.train()
        self.optimizer.param_groups[0]["lr"] = self.training.rate(self.steps)
        self.optimizer.zero_grad(set_to_none=True)
        values_by_term: dict[str, list[Tensor]] = {}
        for sampler in self.samplers:
            batch = self._generate(sampler, generator, exact=bool(students))
            loss, terms = self.loss(batch, [student(batch.images).flatten(1).float() for student in students])
            # The gradients of the students must not change: they belong to the training of the students.
            loss.backward(inputs=self._parameters_of(sampler))  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                values_by_term.setdefault(name, []).append(value.detach())
        self.optimizer.step()
        self.steps += 1
        return {name: torch.stack(values).mean() for name, values in values_by_term.items()}

    def train(
        self,
        iterations: int,
        students: Sequence[Student],
        generator: torch.Generator,
        progress: Progress = SILENT,
        journal: "Journal | None" = None,
    ) -> None:
        """Train for ``iterations`` steps and save the state to ``journal`` when due.

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

    def teacher_outputs(self, images: Tensor, *, exact: bool = False) -> tuple[Tensor, list[LayerStatistics]]:
        """The logits (N, K) of the teacher, float32, and the statistics of its features.

        ``exact`` runs the teacher in float32: bfloat16 changes its scores as much as quantization to 8 bits does, which
        would be mistaken for a difference between teacher and student.
        """
        with nullcontext() if exact else autocast(self.device):
            scores, layers = self.statistics.run(images)
        return scores.flatten(1).float(), layers

    def state(self) -> dict[str, Any]:
        """Copies of the weights, the state of the optimizer and the number of steps."""
        state = {"weights": self.samplers.state_dict(), "optimizer": self.optimizer.state_dict(), "steps": self.steps}
        return deepcopy(state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load a state; without ``optimizer`` in it, Adam is left unchanged.

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

    def _generate(self, sampler: nn.Module, generator: torch.Generator, *, exact: bool) -> GeneratorStep:
        with autocast(self.device):
            images, labels = sampler(self.training.batch, generator)
        return GeneratorStep(images, labels, *self.teacher_outputs(images, exact=exact))

    def _parameters_of(self, sampler: nn.Module) -> list[nn.Parameter]:
        return [parameter for parameter in sampler.parameters() if parameter.requires_grad]


def _read(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Read all values with one synchronization."""
    return dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True)) if terms else {}


def split_evenly(count: int, parts: int) -> list[int]:
    """Split ``count`` into ``parts`` integers that differ by at most one."""
    return [count // parts + (index < count % parts) for index in range(parts)]


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw from N(0, 1) on the device of ``generator`` and move the result to ``device``."""
    return torch.randn(*shape, generator=generator, device=generator.device).to(device)


def draw_classes(count: int, classes: int, generator: torch.Generator, *, balanced: bool) -> Tensor:
    """Draw classes (count,) int64 on the device of ``generator``: independently, or equally often if ``balanced``."""
    if not balanced:
        return torch.randint(classes, (count,), generator=generator, device=generator.device)
    rounds = math.ceil(count / classes)
    orders = [torch.randperm(classes, generator=generator, device=generator.device) for _ in range(rounds)]
    return torch.cat(orders)[:count]
