"""Correct channel means while a block is learned.

If the loss contained mean shifts, rounding would be learned to reduce them, though a bias corrects them at no cost
(:mod:`dfq_deploy.refinement.bias_correction`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dfq_deploy.encodings import channel_shape
from dfq_deploy.twin import Hook

__all__ = ["BatchIndices", "channel_shifts", "correct_means", "parts_of", "sample_means"]


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


def sample_means(values: Tensor, count: int) -> Tensor:
    """The channel means (N, C) of each of ``count`` samples; more rows of ``values`` (R, C, ...) are parts of them."""
    means = values.flatten(2).mean(2) if values.ndim > 2 else values
    return means if len(means) == count else means.reshape(count, -1, means.shape[1]).mean(1)


def parts_of(count: int, most: int) -> list[slice]:
    """Split ``count`` samples into parts of at most ``most``, which is at least 1."""
    size = max(1, most)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def channel_shifts(
    run: Callable[[slice, Mapping[str, Hook]], None],
    means: Mapping[str, Tensor],
    hooks: Mapping[str, Hook],
    parts: Sequence[slice],
) -> dict[str, Tensor]:
    """The shifts (C,) of each layer's output to its mean in the float network, with those of all layers before it.

    Args:
        run: runs the samples of a part with hooks.
        means: (N, C) by output, in the order of the layers.
        hooks: of the quantized network.
        parts: of the samples; the shift is the mean over them.
    """
    found: dict[str, Tensor] = {}
    hooks, total = dict(hooks), sum(part.stop - part.start for part in parts)
    for name, of_samples in means.items():
        told: list[Tensor] = []
        batch = BatchIndices(slice(0))
        measuring = correct_means(of_samples, batch, None, told.append)
        for part in parts:
            batch.indices = part
            run(part, {**hooks, name: measuring})
        shares = [(part.stop - part.start) / total for part in parts]
        found[name] = torch.stack([share * shift for share, shift in zip(shares, told, strict=True)]).sum(0)
        hooks[name] = _shifted(found[name], hooks.get(name))
    return found


def _shifted(shift: Tensor, next_hook: Hook | None) -> Hook:
    def apply(values: Tensor) -> Tensor:
        values = values + shift.reshape(channel_shape(values.ndim, 1))
        return values if next_hook is None else next_hook(values)

    return apply
