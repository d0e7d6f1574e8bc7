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
    """The terms of the loss.

    Args:
        temperature: T of ``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, averaged over the batch.
        class_weight: of the cross-entropy with the samples' own soft labels, where they have any.
        feature_weight: of the features' relative squared error ``|student - teacher|^2 / |teacher|^2``, averaged over
            the tensors that are aligned.
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
    """The loss of one model.

    Args:
        terms: of the loss.
        scores: the output that holds class scores; None where the model does not classify: all outputs are then
            matched by their relative squared error.
        outputs: names of the float outputs.
        features: names of the tensors that are aligned.
    """

    terms: Distillation
    scores: str | None
    outputs: tuple[str, ...]
    features: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """Tensors that both networks have to keep beside their outputs."""
        return self.features if self.terms.feature_weight else ()

    def loss(
        self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], labels: Tensor | None = None
    ) -> Tensor:
        """The loss of a batch, a scalar in nats (relative squares where there are no scores).

        Args:
            student, teacher: outputs and kept tensors by name; the teacher's without gradient.
            labels: soft labels (N, K) of the samples.
        """
        if self.scores is None:
            loss = _relative_error([(student[name], teacher[name]) for name in self.outputs])
        else:
            given, wanted = (results[self.scores].flatten(1).float() for results in (student, teacher))
            loss = divergence(given, wanted, self.terms.temperature)
            if self.terms.class_weight and labels is not None:
                loss = loss + self.terms.class_weight * F.cross_entropy(given, labels)
        if self.kept:
            pairs = [(student[name], teacher[name]) for name in self.kept]
            loss = loss + self.terms.feature_weight * _relative_error(pairs)
        return loss

    @torch.no_grad()
    def agreement(self, student: Tensor, teacher: Tensor) -> float:
        """Percent of the samples that get the same class; without class scores the signal to noise in dB."""
        if self.scores is not None:
            return 100 * float((student.flatten(1).argmax(1) == teacher.flatten(1).argmax(1)).double().mean())
        noise = (student - teacher).double().square().sum().clamp_min(1e-30)
        return float(10 * torch.log10(teacher.double().square().sum() / noise))


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(teacher || student)`` of logits (N, K) at temperature T, averaged over the batch, in nats.

    T^2 keeps the size of its gradients (Hinton et al., section 2).
    """
    given, wanted = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher))
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True) * temperature**2


def _relative_error(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    errors = [
        (given.float() - wanted.float()).square().sum() / wanted.float().square().sum().clamp_min(1e-12)
        for given, wanted in pairs
    ]
    return torch.stack(errors).mean()
