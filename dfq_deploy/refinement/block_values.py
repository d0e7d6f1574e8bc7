"""Keep the features between two blocks, on disk if large."""

from collections.abc import Callable

import torch
from torch import Tensor

from dfq_deploy.files.arrays import allocate, release_at

__all__ = ["computed", "mean_square", "random_mask", "release_all"]


def computed(values: Tensor, size: int, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The results of ``function`` for all rows of ``values``, computed ``size`` rows at a time."""
    results, filled = torch.empty(0), 0
    for rows in torch.split(values, size):
        part = function(rows)
        if not filled:
            results = _room(len(values), part)
        results[filled : filled + len(part)] = part
        filled += len(part)
        release_all(values, results)
    return results


def _room(count: int, part: Tensor) -> Tensor:
    """Room for ``count`` rows of the shape and the memory format of ``part``, on disk if large."""
    if part.ndim == 4 and part.is_contiguous(memory_format=torch.channels_last):
        _, channels, height, width = part.shape
        return torch.from_numpy(allocate((count, height, width, channels))).permute(0, 3, 1, 2)
    return torch.from_numpy(allocate((count, *part.shape[1:])))


def release_all(*tensors: Tensor) -> None:
    """Take tensors that are on disk out of memory; they are read again when used."""
    for tensor in tensors:
        release_at(tensor.untyped_storage().data_ptr())


def mean_square(one: Tensor, other: Tensor, rows: int = 64) -> float:
    """Mean squared difference of two tensors of one shape, ``rows`` rows at a time."""
    total = 0.0
    for start in range(0, len(one), rows):
        part = slice(start, start + rows)
        total += float((one[part] - other[part]).square().sum())
        release_all(one, other)
    return total / max(one.numel(), 1)


def random_mask(like: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A mask of 1 and 0 with the shape, the memory format, the type and the device of ``like``.

    Eight elements share a random number of 64 bits: a number for each takes four times as long.

    Args:
        share: probability of a 1, above 0; it is rounded to a multiple of 1/256.
        generator: of the CPU.
    """
    words = torch.randint(-(2**63), 2**63 - 1, (-(-like.numel() // 8),), generator=generator)
    ones = words.view(torch.uint8)[: like.numel()] <= round(256 * share) - 1  # 256 would overflow
    mask = torch.empty_like(like)
    dense = mask.as_strided((mask.numel(),), (1,))  # empty_like leaves no gaps
    dense.copy_(ones)
    return mask
