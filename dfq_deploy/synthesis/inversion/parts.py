"""Run a batch in parts that fit into memory, with the statistics of the whole batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from dfq_deploy.synthesis.losses.batch_norm_statistics import LayerStatistics
from dfq_deploy.twin import Twin
from dfq_deploy.twin.kept_memory import kept_bytes
from dfq_deploy.validation.budget import ENOUGH, allowance, budget, in_megabytes

__all__ = ["BatchStatistics", "part_note", "part_sizes", "with_gradient"]

MEMORY = {"cpu": 2**29, "cuda": 2**34}
"""Bytes that one part may keep between the forward and the backward pass, by device: fixed, so that the same seed gives
the same samples on all machines. More than 256 pictures of 32 by 32 take on a ResNet-20. On the CPU a small
``--max-memory`` leaves less (:mod:`dfq_deploy.validation.budget`)."""


class _WithGradient(torch.autograd.Function):
    """A value whose gradient is already known."""

    @staticmethod
    def forward(ctx: FunctionCtx, images: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * grad, None, None


def with_gradient(images: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """The scalar ``value`` as a function of ``images``, with the given gradient."""
    result: Tensor = _WithGradient.apply(images, value, gradient)  # type: ignore[no-untyped-call]
    return result


def part_sizes(run: Callable[[Tensor], object], teachers: Sequence[Twin], images: Tensor) -> list[int]:
    """Sizes of the parts of a batch (N, ...), equal up to one, so that what a part keeps fits :data:`MEMORY`.

    Args:
        run: the forward pass, of which one image is measured.
    """
    limit = allowance(MEMORY["cpu"]) if images.device.type == "cpu" else MEMORY["cuda"]
    weights = (tensor for teacher in teachers for tensor in (*teacher.parameters(), *teacher.buffers()))
    most = max(1, limit // max(kept_bytes(run, images[:1], weights), 1))
    parts = -(-len(images) // most)
    return [len(images) // parts + (index < len(images) % parts) for index in range(parts)]


def part_note(parts: int, device: torch.device) -> str:
    """The sentence on a batch that ran in ``parts`` where ``--max-memory`` decides their number; empty elsewhere."""
    if parts < 2 or device.type != "cpu" or budget() == ENOUGH:
        return ""
    left = in_megabytes(allowance(MEMORY["cpu"]))
    return f"--max-memory leaves {left} to the features of a batch, so the inversion ran its batches in {parts} parts"


class BatchStatistics:
    """Statistics of a whole batch that is run in parts, one after the other.

    While one part runs, the others count with the statistics of their last run, as in DGH (Pan et al., WACV 2025),
    which aggregates statistics over all images of a set. Its gradient is that of the whole batch but for that delay.

    Args:
        shares: of each part in the batch; they add up to 1.
    """

    def __init__(self, shares: Sequence[float]) -> None:
        self.shares = tuple(shares)
        self._moments: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def combine(self, part: int, layers: Sequence[LayerStatistics]) -> list[LayerStatistics]:
        """The statistics of the batch, with gradients through those of ``part``.

        Parts that have not run yet are left out.

        Args:
            layers: statistics of the part at each layer, in order.
        """
        self._moments[part] = [(layer.mean.detach(), layer.var.detach()) for layer in layers]
        total = sum(self.shares[index] for index in self._moments)
        combined = []
        for position, layer in enumerate(layers):
            known = {index: moments[position] for index, moments in self._moments.items()}
            known[part] = (layer.mean, layer.var)
            shares = {index: self.shares[index] / total for index in known}
            means = [shares[index] * mean for index, (mean, _) in known.items()]
            mean = torch.stack(means).sum(0)
            variances = [shares[index] * (var + (own - mean).square()) for index, (own, var) in known.items()]
            combined.append(replace(layer, mean=mean, var=torch.stack(variances).sum(0)))
        return combined

    def state(self) -> dict[str, Any]:
        """The statistics of each part."""
        return {"moments": dict(self._moments)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned."""
        self._moments = dict(state["moments"])
