"""Qimera: samples near decision boundaries (Choi et al., NeurIPS 2021).

Qimera: samples near the decision boundaries, from superposed class embeddings (Choi et al., NeurIPS 2021, arXiv
2111.02625).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dfq_deploy.errors import ModelError, OptionError
from dfq_deploy.graph.operators import is_op
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.plugins.options import is_large
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.synthesis.generators.method import GeneratorMethod, GeneratorSchedule
from dfq_deploy.synthesis.generators.networks import Geometry, ImageGenerator
from dfq_deploy.synthesis.generators.training import GeneratorLoss, Sampler, draw_classes, normal
from dfq_deploy.synthesis.methods.gdfq import ClassLoss
from dfq_deploy.twin import Twin

__all__ = ["Qimera", "classifier_rows", "soft_labels"]

WEIGHTED = ("Gemm", "MatMul", "Conv")


def classifier_rows(teacher: Twin, classes: int) -> Tensor | None:
    """The weight of the last Gemm, MatMul or 1x1 Conv, one row per class: float32 (K, F) on the CPU.

    None if it is not an initializer, or does not compute ``classes`` scores. If F equals K, so that the axes cannot be
    distinguished, the weight is read as (K, F).
    """
    last = next((step for step in reversed(teacher.steps) if is_op(step, WEIGHTED)), None)
    if last is None:
        return None
    for name in last.inputs[1::-1]:  # a MatMul may have its weight on either side
        try:
            weight = teacher.initializer(name).detach().float().cpu()
        except ModelError:
            continue
        weight = weight.squeeze((2, 3)) if weight.ndim == 4 else weight
        if weight.ndim == 2 and classes in weight.shape:
            return (weight if weight.shape[0] == classes else weight.T).clone()
    return None


def soft_labels(classes: Tensor, coefficients: Tensor, count: int) -> Tensor:
    """Convert classes (N, S) int64 and their coefficients (N, S) to soft labels (N, ``count``); the coefficients of a
    class that occurs twice are added.
    """
    return torch.zeros(len(classes), count, device=classes.device).scatter_add_(1, classes, coefficients)


class _Superposed(Sampler):
    """A generator from the embedding of one class, or a weighted sum of the embeddings of several, to images.

    Args:
        embeddings: (K, F), initial class embeddings.
        geometry: of the generator; its latent length is that of the output of the mapping, or F without a mapping.
        superposed: probability that several classes are superposed.
        parts: number of classes that are superposed.
        mapping: use the disentanglement mapping.
    """

    def __init__(
        self,
        embeddings: Tensor,
        geometry: Geometry,
        preprocess: Preprocess | None,
        *,
        superposed: float,
        parts: int,
        mapping: bool,
    ) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(embeddings)
        self.superposed, self.parts = superposed, parts
        self.norm = nn.BatchNorm1d(embeddings.shape[1], affine=False)
        self.mapping = nn.Linear(embeddings.shape[1], geometry.latent) if mapping else nn.Identity()
        self.network = ImageGenerator(geometry, preprocess)

    def forward(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Images and soft labels. In training all images of a batch are superposed or none, as in the paper; in
        evaluation each image is drawn independently.
        """
        classes, coefficients = (part.to(self.embeddings.device) for part in self.choose(count, generator))
        noise = normal((*classes.shape, self.embeddings.shape[1]), generator, self.embeddings.device)
        parts = self.norm((self.embeddings[classes] + noise).flatten(0, 1)).unflatten(0, classes.shape)
        latents = self.mapping((coefficients.unsqueeze(2) * parts).sum(1))
        labels = soft_labels(classes, coefficients, len(self.embeddings))
        return self.network(latents, labels), labels

    def choose(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw classes (N, S) and their coefficients (N, S): the softmax of N(0, 1), or 1 for the first class."""
        device = generator.device
        chance = torch.rand((1 if self.training else count, 1), generator=generator, device=device)
        several = chance < self.superposed
        parts = self.parts if bool(several.any()) else 1
        first = draw_classes(count, len(self.embeddings), generator, balanced=not self.training)
        others = torch.randint(len(self.embeddings), (count, parts - 1), generator=generator, device=device)
        coefficients = torch.softmax(normal((count, parts), generator, device), 1)
        single = nn.functional.one_hot(torch.zeros(count, dtype=torch.int64, device=device), parts).float()
        return torch.cat([first[:, None], others], 1), torch.where(several, coefficients, single)


@dataclass(frozen=True)
class Qimera(GeneratorMethod):
    """GDFQ's losses on a generator with superposed latents: with some probability, the embeddings of several classes
    are summed with random coefficients, which are the soft label. Such samples lie near the decision boundaries.

    ``latent = sum_k c_k * BN(E[y_k] + z_k)`` with z of N(0, I) and c the softmax of N(0, I). The embeddings E are
    trained; they are initialised with the rows of the teacher's classifier, normalised to mean 0 and variance 1 (chosen
    here: the classes are separated sooner). A linear layer (disentanglement mapping) maps the latent to the generator.
    Losses, batches and the schedule ``paper`` are those of :class:`Gdfq`, as in the paper. If the normalisations are
    class-conditional (large images), a soft label takes the weighted mean of their gains; the authors' code divides it
    by the number of classes once more. Other options: :class:`GeneratorMethod`; ``latent`` is the length of the output
    of the mapping.

    Samples near the boundaries are meant for fine-tuning. The teacher is less confident on them, so the ranges of its
    last layers are narrower than on real images. For calibration, the same network trained with ``superposed=0`` gives
    better results (digits of the examples, 150 iterations from random embeddings, 8 bits: a signal-to-noise ratio of
    40 dB instead of 31).

    Args:
        superposed: probability of superposition; 0.4 in the paper, but 0.7 for ResNet-50.
        parts: number of classes that are superposed; None is a tenth of the classes and at least 2, which gives the
            paper's 2 on CIFAR-10, 10 on CIFAR-100 and 100 on ImageNet (500 at 4 bits).
        embedding: ``classifier``, ``random`` (N(0, 1), as in the authors' scripts for CIFAR-10), or ``auto``: the
            classifier if the model ends in one.
        mapping: use the disentanglement mapping; the authors' scripts do not use it.
        statistics_weight: weight of the BatchNormalization loss; 0.1 in the paper.
    """

    superposed: float = 0.4
    parts: int | None = None
    embedding: str = "auto"
    mapping: bool = True
    statistics_weight: float = 0.1

    summary: ClassVar[str] = "a generator on superposed class embeddings, with soft labels (Choi et al., NeurIPS 2021)"
    schedules: ClassVar[dict[tuple[str, str], GeneratorSchedule]] = {
        ("paper", "small"): GeneratorSchedule(80_000, 800, 200),
        ("paper", "large"): GeneratorSchedule(80_000, 10_000, 16),
        ("short", "small"): GeneratorSchedule(400, 100, 32, 32, 5e-3, (0.8,)),
        ("short", "large"): GeneratorSchedule(400, 100, 16, 32, 5e-3, (0.8,)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.superposed <= 1:
            raise OptionError(f"qimera: superposed={self.superposed:g} is not a probability from 0 to 1")
        if self.parts is not None and self.parts < 1:
            raise OptionError(f"qimera: parts={self.parts} must be at least 1")
        if self.embedding not in ("auto", "classifier", "random"):
            raise OptionError(f"qimera: embedding '{self.embedding}' is not one of auto, classifier, random")

    def structure(self, schedule: GeneratorSchedule) -> dict[str, Any]:
        """Adds the options that determine the shape of the embeddings and how latents are drawn."""
        return super().structure(schedule) | {
            name: getattr(self, name) for name in ("embedding", "mapping", "superposed", "parts")
        }

    def samplers(self, teacher: Twin, request: SynthesisRequest, schedule: GeneratorSchedule) -> list[Sampler]:
        """Create one generator."""
        classes = request.classes or 0
        rows = None if self.embedding == "random" else classifier_rows(teacher, classes)
        if rows is None and self.embedding == "classifier":
            raise ModelError("qimera: the model does not end in a Gemm, MatMul or 1x1 Conv; use embedding=random")
        # Scaled to the noise that is added to them: the rows of a trained classifier are several times smaller.
        embeddings = (
            torch.randn(classes, self.latent) if rows is None else (rows - rows.mean()) / rows.std().clamp_min(1e-12)
        )
        latent = self.latent if self.mapping else embeddings.shape[1]
        large = is_large(request)
        geometry = Geometry(latent, request.shape, schedule.channels, classes if large else None)
        return [
            _Superposed(
                embeddings,
                geometry,
                request.preprocess,
                superposed=self.superposed,
                parts=self.parts or max(2, classes // 10),
                mapping=self.mapping,
            )
        ]

    def loss(self) -> GeneratorLoss:
        """Cross-entropy with the soft labels, and statistics."""
        return ClassLoss(self.statistics_weight)
