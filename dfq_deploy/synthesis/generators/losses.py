"""Generator losses: entropies, divergences, distances."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dfq_deploy.synthesis.losses.batch_norm_statistics import LayerStatistics

__all__ = [
    "EPSILON",
    "batch_entropy",
    "gaussian_divergence",
    "inception_loss",
    "instance_entropy",
    "output_divergence",
]

EPSILON = 1e-5
"""Added to variances, as in BatchNormalization: the variance of a channel that was constant in training is 0."""


def gaussian_divergence(layers: Sequence[LayerStatistics]) -> Tensor:
    """BatchNormalization loss of Choi et al. (2020, section 3): KL(batch || training) between the Gaussians with the
    mean and variance of each channel, averaged over channels and then layers, where the paper has the sum.

    ``((m - mu)^2 + v) / (2 s^2) - ln(v / s^2) / 2 - 1 / 2`` with the batch's m and v, and mu and s^2 of training.
    """
    terms = []
    for layer in layers:
        var, running_var = layer.var + EPSILON, layer.running_var + EPSILON
        shift = (layer.mean - layer.running_mean).square()
        terms.append(((shift + var) / running_var - (var / running_var).log() - 1).mean() / 2)
    total: Tensor = torch.stack(terms).mean()
    return total


def instance_entropy(scores: Tensor) -> Tensor:
    """Mean entropy of the class probabilities of the samples: low if each is confidently assigned to one class."""
    logs = torch.log_softmax(scores, 1)
    return -(logs.exp() * logs).sum(1).mean()


def batch_entropy(scores: Tensor) -> Tensor:
    """Entropy of the mean class probabilities of the batch: high if all classes occur equally often."""
    mean = torch.softmax(scores, 1).mean(0)
    entropy: Tensor = torch.special.entr(mean).sum()
    return entropy


def inception_loss(scores: Tensor) -> Tensor:
    """Minus the logarithm of the inception score (Salimans et al., NeurIPS 2016), with the teacher as classifier:
    instance entropy minus batch entropy; between -ln K and 0.
    """
    return instance_entropy(scores) - batch_entropy(scores)


def output_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) between class probabilities, averaged over the samples."""
    logs, target = torch.log_softmax(student, 1), torch.log_softmax(teacher, 1)
    return torch.nn.functional.kl_div(logs, target, reduction="batchmean", log_target=True)
