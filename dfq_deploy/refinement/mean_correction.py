"""Correct channel means while a block is learned.

If the loss contained mean shifts, rounding would be learned to reduce them, though a bias corrects them at no cost
(:mod:`dfq_deploy.refinement.bias_correction`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dfq_deploy.encodings import channel_shape
from dfq_deploy.twin import Hook

__all__ = ["BatchIndices", "correct_means"]


@dataclass
class BatchIndices:
    """Indices of the samples in the current batch."""

    indices: Tensor | slice


def correct_means(
    means: Tensor, batch: BatchIndices, next_hook: Hook | None, on_shift: Callable[[Tensor], None] | None = None
) -> Hook:
    """Return a hook that shifts each channel of a layer's output to its mean in the float network.

    Args:
        means: (N, C), means of each sample in the float network.
        batch: the indices of the current batch among those N samples.
        next_hook: the tensor's own hook, which is called afterwards.
        on_shift: is called with the shift, (C,).
    """

    def correct(values: Tensor) -> Tensor:
        axes = [axis for axis in range(values.ndim) if axis != 1]
        shift = means[batch.indices].mean(0) - values.mean(axes)
        if on_shift is not None:
            on_shift(shift)
        values = values + shift.reshape(channel_shape(values.ndim, 1))
        return values if next_hook is None else next_hook(values)

    return correct
