"""Losses of classification."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []

IGNORE_NOTHING = -(2**31)
"""A label that does not occur."""


@register("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood(node: Node) -> Operator:
    """Minus the log-probability of each label; in nats."""
    reduction, ignored = node.text("reduction", "mean"), node.integer("ignore_index", IGNORE_NOTHING)

    def run(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        return F.nll_loss(scores, labels.long(), weight, ignore_index=ignored, reduction=reduction)

    return run


@register("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy(node: Node) -> Operator:
    """Cross entropy of scores, in nats; also gives the log-probabilities where asked."""
    reduction, ignored = node.text("reduction", "mean"), node.integer("ignore_index", IGNORE_NOTHING)

    def run(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logarithms = torch.log_softmax(scores, 1)
        return F.nll_loss(logarithms, labels.long(), weight, ignore_index=ignored, reduction=reduction), logarithms

    return run
