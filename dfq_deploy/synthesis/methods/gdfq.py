"""GDFQ: a conditional generator (Xu et al., ECCV 2020).

GDFQ: a conditional generator trained on the classes and statistics of a teacher (Xu et al., ECCV 2020, arXiv
2003.03603).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.plugins.options import is_large
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.generators.method import GeneratorMethod, GeneratorSchedule
from dfq_deploy.synthesis.generators.networks import Geometry, ImageGenerator
from dfq_deploy.synthesis.generators.training import GeneratorLoss, GeneratorStep, Sampler, draw_classes, normal
from dfq_deploy.synthesis.losses.batch_norm_statistics import mean_squares
from dfq_deploy.twin import Twin

__all__ = ["ClassLoss", "Gdfq"]


@dataclass(frozen=True)
class ClassLoss:
    """Cross-entropy between the teacher and the labels that the generator is conditioned on, plus the distance of the
    statistics: ``CE + statistics_weight * BNS`` (GDFQ, section 3; also used by Qimera).
    """

    statistics_weight: float

    def __call__(self, batch: GeneratorStep, students: object) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its two terms; independent of the students."""
        assert batch.labels is not None, "the generators of this loss are conditional"
        terms = {
            "class": nn.functional.cross_entropy(batch.scores, batch.labels),
            "statistics": mean_squares(batch.layers),
        }
        return terms["class"] + self.statistics_weight * terms["statistics"], terms


class _Conditional(Sampler):
    """A generator from noise and a class: the input is the sum of the noise and the class embedding for small images,
    and the noise with class-conditional normalisation for large ones.
    """

    def __init__(self, geometry: Geometry, classes: int, preprocess: Preprocess | None) -> None:
        super().__init__()
        self.latent, self.classes = geometry.latent, classes
        self.embedding = None if geometry.classes else nn.Embedding(classes, geometry.latent)
        self.network = ImageGenerator(geometry, preprocess)

    def forward(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        device = self.network.last.weight.device
        classes = draw_classes(count, self.classes, generator, balanced=not self.training).to(device)
        noise = normal((count, self.latent), generator, device)
        labels = nn.functional.one_hot(classes, self.classes).float()
        return self.network(noise if self.embedding is None else noise + self.embedding(classes), labels), labels


@dataclass(frozen=True)
class Gdfq(GeneratorMethod):
    """A class-conditional generator whose images the teacher assigns to that class with the statistics of its training.

    ``loss = CE + statistics_weight * BNS``, BNS being the mean squared distance of means and variances. The paper
    trains 400 epochs of 200 iterations, in batches of 200 (CIFAR) or 16 (ImageNet), after a warm-up of 4 or 50
    of these epochs, with Adam at 0.001, divided by ten at epochs 100, 200 and 300: the schedule ``paper``. The schedule
    ``short`` has the same losses; its numbers were chosen on the digits of the examples and on CIFAR-10 training
    images. So was the sum of noise and class embedding for small images: the paper only states that the generator is
    conditional. With their product, the other common form, the teacher recognises two thirds of the classes on the
    digits after 250 iterations, with the sum all of them. Other options: :class:`GeneratorMethod`.

    Args:
        statistics_weight: weight of BNS; 0.1 in the paper.
    """

    statistics_weight: float = 0.1

    summary: ClassVar[str] = "a generator for each class, against BatchNormalization statistics (Xu et al., ECCV 2020)"
    schedules: ClassVar[dict[tuple[str, str], GeneratorSchedule]] = {
        ("paper", "small"): GeneratorSchedule(80_000, 800, 200),
        ("paper", "large"): GeneratorSchedule(80_000, 10_000, 16),
        ("short", "small"): GeneratorSchedule(400, 100, 32, 32, 5e-3, (0.8,)),
        ("short", "large"): GeneratorSchedule(400, 100, 16, 32, 5e-3, (0.8,)),
    }

    def samplers(self, teacher: Twin, request: SynthesisRequest, schedule: GeneratorSchedule) -> list[Sampler]:
        """Create one generator."""
        classes = request.classes or 0
        large = is_large(request)
        geometry = Geometry(self.latent, request.shape, schedule.channels, classes if large else None)
        return [_Conditional(geometry, classes, request.preprocess)]

    def loss(self) -> GeneratorLoss:
        """Cross-entropy and statistics."""
        return ClassLoss(self.statistics_weight)
