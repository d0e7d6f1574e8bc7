"""DFQF: a fixed set from a generator (Li et al., ACML 2020).

DFQF: a fixed set of samples from a generator trained on inception score, statistics and disagreement (Li et al., ACML
2020, PMLR 129, 289-304).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import Source, Student, SynthesisRequest
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.generators.losses import inception_loss, output_divergence
from dfq_deploy.synthesis.generators.method import GeneratorMethod, GeneratorSchedule, draw_samples
from dfq_deploy.synthesis.generators.networks import Geometry
from dfq_deploy.synthesis.generators.training import GeneratorLoss, GeneratorStep, Sampler
from dfq_deploy.synthesis.losses.batch_norm_statistics import mean_squares
from dfq_deploy.synthesis.methods.adversarial import Unconditional
from dfq_deploy.twin import Twin

__all__ = ["Dfqf", "DfqfLoss", "FixedSet"]


@dataclass(frozen=True)
class DfqfLoss:
    """``L_IS + statistics_weight * BNS - adversarial * KL(teacher || student)``; without students the first two."""

    statistics_weight: float
    adversarial: float

    def __call__(self, batch: GeneratorStep, students: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its unweighted terms."""
        terms = {"inception": inception_loss(batch.scores), "statistics": mean_squares(batch.layers)}
        loss = terms["inception"] + self.statistics_weight * terms["statistics"]
        if students:
            terms["divergence"] = torch.stack([output_divergence(batch.scores, student) for student in students]).mean()
            loss = loss - self.adversarial * terms["divergence"]
        return loss, terms


class FixedSet(Source):
    """A source that draws from a fixed set of samples in random order, independent of the students.

    Args:
        samples: with soft labels, or without labels; None if :meth:`restore` loads them later.
        device: device of the drawn samples.
    """

    def __init__(self, samples: Samples | None, device: str) -> None:
        self._images = torch.empty(0) if samples is None else torch.from_numpy(samples.images)
        self._labels = None if samples is None or samples.labels is None else torch.from_numpy(samples.labels)
        self._device = device

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw ``count`` samples; none is repeated until all have been drawn."""
        rounds = -(-count // len(self._images))
        orders = [
            torch.randperm(len(self._images), generator=generator, device=generator.device) for _ in range(rounds)
        ]
        indices = torch.cat(orders)[:count].cpu()
        labels = None if self._labels is None else self._labels[indices].to(self._device)
        return self._images[indices].to(self._device), labels

    def adapt(self, students: Sequence[Student], generator: torch.Generator) -> dict[str, float]:
        """Do nothing: the set is fixed."""
        return {}

    def state(self) -> dict[str, Any]:
        """The set."""
        return {"images": self._images, "labels": self._labels}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the set."""
        self._images, self._labels = state["images"], state["labels"]


@dataclass(frozen=True)
class Dfqf(GeneratorMethod):
    """Draws a fixed set from a generator whose images are confidently classified and cover all classes (inception
    score), have the statistics of the training data, and separate a quantized student from the teacher.

    The three losses and the fixed set are those of the paper; their weights, their exact form, the generator and the
    schedule are not known to this project. Here the statistics loss is GDFQ's; the adversarial loss is minus
    KL(teacher || student) with the unchanged quantized network as the student, added after a warm-up; and the generator
    is GDFQ's without classes. The numbers were chosen on the digits of the examples.

    Other options: :class:`GeneratorMethod`.

    Args:
        statistics_weight: weight of the BatchNormalization loss.
        adversarial: weight of the divergence.
    """

    statistics_weight: float = 1.0
    adversarial: float = 1.0

    summary: ClassVar[str] = "a fixed set from a generator: inception score, statistics, disagreement (Li et al., 2020)"
    needs_student: ClassVar[bool] = True
    schedules: ClassVar[dict[tuple[str, str], GeneratorSchedule]] = {
        ("paper", "small"): GeneratorSchedule(20_000, 4_000, 256),
        ("paper", "large"): GeneratorSchedule(20_000, 4_000, 16),
        ("short", "small"): GeneratorSchedule(400, 300, 32, 32, 5e-3, (0.8,)),
        ("short", "large"): GeneratorSchedule(400, 300, 16, 32, 5e-3, (0.8,)),
    }

    def samplers(self, teacher: Twin, request: SynthesisRequest, schedule: GeneratorSchedule) -> list[Sampler]:
        """Create one generator."""
        return [Unconditional(Geometry(self.latent, request.shape, schedule.channels), request.preprocess)]

    def loss(self) -> GeneratorLoss:
        """Inception score, statistics and divergence."""
        return DfqfLoss(self.statistics_weight, self.adversarial)

    def prepare(self, teachers: Sequence[Twin], request: SynthesisRequest, progress: Progress = SILENT) -> Source:
        """Train the generator and draw ``request.count`` samples from it.

        Raises:
            ModelError: there is no student, or the model is not suitable.
        """
        return FixedSet(draw_samples(self.train(teachers, request, progress), request, progress), request.device)

    def source(self, teachers: Sequence[Twin], request: SynthesisRequest) -> Source:
        """An empty set."""
        return FixedSet(None, request.device)
