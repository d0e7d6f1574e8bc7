"""Batches of images: how many, with which classes, one after the other, and the set that they make."""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.progress import Progress
from dfq_deploy.samples import Samples
from dfq_deploy.synthesis.inversion import Inversion
from dfq_deploy.synthesis.request import SynthesisRequest

__all__ = ["Batch", "Part", "batch_sizes", "collect", "descend_all", "parts_of", "spread_targets"]

IN_MEMORY = 1 << 28
"""Bytes of images above which a set lies in an unnamed temporary file instead of in memory."""


@dataclass(frozen=True, eq=False)
class Part:
    """A batch to make.

    Args:
        index: of the batch.
        size: number of images.
        targets: classes int64 (size,), on the CPU; None where there are none.
    """

    index: int
    size: int
    targets: Tensor | None


@dataclass(frozen=True, eq=False)
class Batch:
    """A finished batch.

    Args:
        images: float32 (n, ...).
        labels: float32 (n, K) soft labels, or None.
        figures: numbers about it, by name; a set reports their means.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.float32] | None
    figures: dict[str, float]


def spread_targets(request: SynthesisRequest, generator: torch.Generator) -> Tensor | None:
    """Classes (N,): each appears floor(N / K) or ceil(N / K) times, in random order."""
    if request.classes is None:
        return None
    rounds = math.ceil(request.count / request.classes)
    spread = torch.cat([torch.randperm(request.classes, generator=generator) for _ in range(rounds)])
    return spread[: request.count]


def batch_sizes(count: int, largest: int) -> list[int]:
    """Batches of equal size (to one), since the statistics of a small last batch would mean little."""
    batches = math.ceil(count / largest)
    return [count // batches + (index < count % batches) for index in range(batches)]


def parts_of(count: int, largest: int, targets: Tensor | None) -> list[Part]:
    """The batches of ``count`` images, none above ``largest``, and the targets dealt out to them."""
    sizes = batch_sizes(count, largest)
    dealt: Sequence[Tensor | None] = [None] * len(sizes) if targets is None else torch.split(targets, sizes)
    return [Part(index, size, chosen) for index, (size, chosen) in enumerate(zip(sizes, dealt, strict=True))]


def descend_all(parts: Iterable[Part], start: Callable[[Part], Inversion], progress: Progress) -> Iterator[Batch]:
    """Make batch after batch, each handed on before the next is begun.

    Args:
        start: a new descent for a part; it draws from the method's generator, so parts are started in order.
    """
    for part in parts:
        run = start(part)
        run.run(progress)
        yield _finished(run, part)


def _finished(run: Inversion, part: Part) -> Batch:
    images = run.images
    soft, figures = run.objective.judge(images)
    if soft is not None and part.targets is not None:
        figures = figures | {"target_hit": float((soft.argmax(1).cpu() == part.targets).float().mean())}
    labels = None if soft is None else soft.cpu().numpy()
    return Batch(images.contiguous().cpu().numpy(), labels, figures)


def collect(request: SynthesisRequest, batches: Iterable[Batch], notes: tuple[str, ...] = ()) -> Samples:
    """The set that the batches make; the figures are means over the images.

    Memory does not grow with the number of samples beyond :data:`IN_MEMORY`: a larger set lies in a temporary file
    that goes when the set does.
    """
    images = _room((request.count, *request.shape))
    labels: list[NDArray[np.float32]] = []
    figures: dict[str, float] = {}
    filled = 0
    for batch in batches:
        size = len(batch.images)
        images[filled : filled + size] = batch.images
        filled += size
        labels += [] if batch.labels is None else [batch.labels]
        for name, value in batch.figures.items():
            figures[name] = figures.get(name, 0.0) + value * size / request.count
    return Samples(images, np.concatenate(labels) if labels else None, figures=figures, notes=notes)


def _room(shape: tuple[int, ...]) -> NDArray[np.float32]:
    if math.prod(shape) * 4 <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as stream:
        return np.memmap(stream, np.float32, "w+", shape=shape)
