"""Keep channel means while a block is learned.

Roundings that are learned with the means in the loss are spent on them, though a bias puts them right for nothing
(:mod:`dfq_deploy.refinement.bias_correction`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dfq_deploy.encodings import channel_shape
from dfq_deploy.twin import Hook

__all__ = ["Rows", "correct_means"]


@dataclass
class Rows:
    """Which samples are going through the network."""

    rows: Tensor | slice


def correct_means(means: Tensor, chosen: Rows, then: Hook | None, tell: Callable[[Tensor], None] | None = None) -> Hook:
    """A hook that shifts each channel of a layer's output so that its mean is the float network's.

    Args:
        means: (N, C), of each sample in the float network.
        chosen: the samples of the batch that comes, among those N.
        then: the tensor's own hook, which follows.
        tell: is handed the shift, (C,).
    """

    def centre(values: Tensor) -> Tensor:
        axes = [axis for axis in range(values.ndim) if axis != 1]
        shift = means[chosen.rows].mean(0) - values.mean(axes)
        if tell is not None:
            tell(shift)
        values = values + shift.reshape(channel_shape(values.ndim, 1))
        return values if then is None else then(values)

    return centre
