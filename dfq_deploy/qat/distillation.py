"""Distillation loss: teacher outputs (Hinton et al. 2015, arXiv 1503.02531) and features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.errors import OptionError

__all__ = ["Distillation", "DistillationLoss"]


@dataclass(frozen=True)
class Distillation:
    """The weights of the terms of the loss.

    Args:
        temperature: T of ``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, averaged over the batch.
        class_weight: weight of the cross-entropy with the soft labels of the samples, if they have any.
        feature_weight: weight of the relative squared error ``|student - teacher|^2 / |teacher|^2`` of the features,
            averaged over the aligned tensors.
    """

    temperature: float = 4.0
    class_weight: float = 0.0
    feature_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature <= 0 or min(self.class_weight, self.feature_weight) < 0:
            raise OptionError(
                f"distillation: temperature={self.temperature:g}, class_weight={self.class_weight:g}, feature_weight="
                f"{self.feature_weight:g}; the temperature is above 0, and weights are not below"
            )


@dataclass(frozen=True)
class DistillationLoss:
    """The distillation loss of one model.

    Args:
        terms: the weights of its terms.
        scores: name of the output with class scores; None if the model does not classify: all outputs are then
            matched by their relative squared error.
        outputs: names of the float outputs.
        features: names of the aligned tensors.
    """

    terms: Distillation
    scores: str | None
    outputs: tuple[str, ...]
    features: tuple[str, ...] = ()

    @property
    def kept_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that both networks must return in addition to their outputs."""
        return self.features if self.terms.feature_weight else ()

    def loss(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], labels: Tensor | None = None
    ) -> Tensor:
        """Compute the loss of a batch, a scalar in nats (relative squared error if there are no scores).

        Args:
            student, teacher: outputs and aligned tensors by name; those of the teacher without gradient.
            labels: soft labels (N, K) of the samples.
        """
        if self.scores is None:
            loss = _relative_error([(student[name], teacher[name]) for name in self.outputs])
        else:
            student_scores, teacher_scores = (results[self.scores].flatten(1).float() for results in (student, teacher))
            loss = divergence(student_scores, teacher_scores, self.terms.temperature)
            if self.terms.class_weight and labels is not None:
                loss = loss + self.terms.class_weight * F.cross_entropy(student_scores, labels)
        if self.kept_tensors:
            pairs = [(student[name], teacher[name]) for name in self.kept_tensors]
            loss = loss + self.terms.feature_weight * _relative_error(pairs)
        return loss

    @torch.no_grad()
    def agreement(self, student: Tensor, teacher: Tensor) -> float:
        """Return the percentage of samples with the same class; without class scores the signal to noise in dB."""
        if self.scores is not None:
            return 100 * float((student.flatten(1).argmax(1) == teacher.flatten(1).argmax(1)).double().mean())
        noise = (student - teacher).double().square().sum().clamp_min(1e-30)
        return float(10 * torch.log10(teacher.double().square().sum() / noise))


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute ``T^2 * KL(teacher || student)`` of logits (N, K) at temperature T, averaged over the batch, in nats.

    The factor T^2 keeps the magnitude of the gradients (Hinton et al., section 2).
    """
    student_log_probabilities, teacher_log_probabilities = (
        F.log_softmax(logits / temperature, 1) for logits in (student, teacher)
    )
    return (
        F.kl_div(student_log_probabilities, teacher_log_probabilities, reduction="batchmean", log_target=True)
        * temperature**2
    )


def _relative_error(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    errors = [
        (student.float() - teacher.float()).square().sum() / teacher.float().square().sum().clamp_min(1e-12)
        for student, teacher in pairs
    ]
    return torch.stack(errors).mean()
