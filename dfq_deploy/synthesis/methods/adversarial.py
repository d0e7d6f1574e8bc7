"""Data-free adversarial distillation (Choi et al., CVPR Workshops 2020).

Samples on which student and teacher differ most (Choi et al., CVPR Workshops 2020, arXiv 2005.04136).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from dfq_deploy.errors import OptionError
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.generators.losses import (
    batch_entropy,
    gaussian_divergence,
    instance_entropy,
    output_divergence,
)
from dfq_deploy.synthesis.generators.method import GeneratorMethod, GeneratorSchedule
from dfq_deploy.synthesis.generators.networks import Geometry, ImageGenerator
from dfq_deploy.synthesis.generators.training import GeneratorLoss, GeneratorStep, Sampler, normal
from dfq_deploy.twin import Twin

__all__ = ["Adversarial", "AdversarialLoss", "Unconditional"]


@dataclass(frozen=True)
class AdversarialLoss:
    """``auxiliary * (L_BN + L_instance - L_batch) - adversarial * KL(teacher || student)``, the divergence averaged
    over the students; without students (in the warm-up) only the first term.
    """

    auxiliary: float
    adversarial: float

    def __call__(self, batch: GeneratorStep, students: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its unweighted terms."""
        terms = {
            "statistics": gaussian_divergence(batch.layers),
            "instance": instance_entropy(batch.scores),
            "batch": batch_entropy(batch.scores),
        }
        loss = self.auxiliary * (terms["statistics"] + terms["instance"] - terms["batch"])
        if students:
            terms["divergence"] = torch.stack([output_divergence(batch.scores, student) for student in students]).mean()
            loss = loss - self.adversarial * terms["divergence"]
        return loss, terms


class Unconditional(Sampler):
    """A generator from noise to images, without classes."""

    def __init__(self, geometry: Geometry, preprocess: Preprocess | None) -> None:
        super().__init__()
        self.latent = geometry.latent
        self.network = ImageGenerator(geometry, preprocess)

    def forward(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Images (count, C, H, W), and None for the labels."""
        return self.network(normal((count, self.latent), generator, self.network.last.weight.device)), None


@dataclass(frozen=True)
class Adversarial(GeneratorMethod):
    """Generators that maximise the divergence of a quantized student from the teacher, regularised towards the training
    data by the statistics, the instance entropy and the batch entropy.

    The min-max problem of the paper: after a warm-up on L, steps of the generators towards
    ``max KL(teacher || student) - auxiliary * L`` alternate with steps of the students towards its minimum. The steps
    of the students are those of fine-tuning, which passes one or several students to :meth:`.GeneratorSource.adapt`.
    For calibration the student is the unchanged quantized network, and only the generators are trained.

    The numbers of the paper and its generators are not known to this project: the generators are GDFQ's without
    classes; batch, Adam and the length of ``paper`` are typical of other generators in the field, and the weights and
    ``short`` were chosen on the digits of the examples. The statistics loss is averaged over layers and channels, where
    the paper has the sum.

    Other options: :class:`GeneratorMethod`.

    Args:
        generators: number of generators; each makes an equal share of the samples.
        auxiliary: weight of ``L = L_BN + L_instance - L_batch``.
        adversarial: weight of the divergence.
    """

    generators: int = 2
    auxiliary: float = 1.0
    adversarial: float = 1.0

    summary: ClassVar[str] = "generators that seek where a quantized student differs (Choi et al., CVPRW 2020)"
    needs_student: ClassVar[bool] = True
    schedules: ClassVar[dict[tuple[str, str], GeneratorSchedule]] = {
        ("paper", "small"): GeneratorSchedule(20_000, 4_000, 256),
        ("paper", "large"): GeneratorSchedule(20_000, 4_000, 16),
        ("short", "small"): GeneratorSchedule(200, 150, 32, 32, 5e-3, (0.8,)),
        ("short", "large"): GeneratorSchedule(200, 150, 16, 32, 5e-3, (0.8,)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.generators < 1:
            raise OptionError(f"adversarial: generators={self.generators} must be at least 1")

    def structure(self, schedule: GeneratorSchedule) -> dict[str, Any]:
        """Adds the number of generators."""
        return super().structure(schedule) | {"generators": self.generators}

    def samplers(self, teacher: Twin, request: SynthesisRequest, schedule: GeneratorSchedule) -> list[Sampler]:
        """Create the generators, with different initial weights."""
        geometry = Geometry(self.latent, request.shape, schedule.channels)
        return [Unconditional(geometry, request.preprocess) for _ in range(self.generators)]

    def loss(self) -> GeneratorLoss:
        """Statistics, entropies and divergence."""
        return AdversarialLoss(self.auxiliary, self.adversarial)
