"""Invert batch after batch and collect the set."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.files.arrays import allocate
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.progress import Progress
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.early_stopping import ConvergenceWatch
from dfq_deploy.synthesis.inversion.loop import Inversion

__all__ = ["Batch", "Part", "batch_sizes", "collect", "descend_all", "parts_of", "spread_targets"]


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


def descend_all(
    parts: Iterable[Part], start: Callable[[Part], Inversion], progress: Progress, request: SynthesisRequest
) -> Iterator[Batch]:
    """Make batch after batch, each handed on before the next is begun.

    Where the request has a journal, finished batches are taken from it, and the running one goes on where it stood.

    Args:
        start: a new descent for a part; it draws from the method's generator, so parts are started in order.
    """
    journal = request.journal
    drawn: Tensor | None = None
    for part in parts:
        known = None if journal is None else journal.batch(part.index)
        if known is not None:
            drawn = known["generator"]
            progress.advance(known["iterations"])
            if request.early_stopping is not None:
                request.early_stopping.messages.extend(known["said"])
            yield Batch(known["images"].numpy(), _array(known["labels"]), known["figures"])
            continue
        run = start(part)
        if drawn is not None:
            # The batches before were not started here: what they drew is made up for, and this one drawn again.
            run.generator.set_state(drawn)
            run, drawn = start(part), None
        _descend(run, part, progress, request)
        batch = _finished(run, part)
        if journal is not None:
            stopped = request.early_stopping if run.step < run.iterations else None
            said = [] if stopped is None else stopped.messages[-1:]
            kept = {"generator": run.generator.get_state(), "iterations": run.iterations, "said": said}
            journal.keep(part.index, kept | {name: getattr(batch, name) for name in ("images", "labels", "figures")})
        yield batch


def _descend(run: Inversion, part: Part, progress: Progress, request: SynthesisRequest) -> None:
    """To the end of the schedule, or until the request's ranges have settled; noted in its journal now and then."""
    journal = request.journal
    watch = None if request.early_stopping is None else ConvergenceWatch(request.early_stopping, run, part.index)
    noted = None if journal is None else journal.noted()
    if noted is not None:
        run.restore(noted["run"])
        progress.advance(run.step)
        if watch is not None:
            watch.restore(noted["watch"])

    def after(step: int, images: Tensor) -> bool:
        ends = watch is not None and watch(step, images)
        if journal is not None and not ends and step < run.iterations and journal.due():
            journal.note({"run": run.state(), "watch": {} if watch is None else watch.state()})
        return ends

    run.run(progress, after)
    if run.step < run.iterations:
        progress.advance(run.iterations - run.step)


def _array(labels: Tensor | None) -> NDArray[np.float32] | None:
    return None if labels is None else labels.numpy()


def _finished(run: Inversion, part: Part) -> Batch:
    images = run.images
    soft, figures = run.objective.judge(images)
    if soft is not None and part.targets is not None:
        figures = figures | {"target_hit": float((soft.argmax(1).cpu() == part.targets).float().mean())}
    labels = None if soft is None else soft.cpu().numpy()
    return Batch(images.contiguous().cpu().numpy(), labels, figures)


def collect(request: SynthesisRequest, batches: Iterable[Batch], notes: tuple[str, ...] = ()) -> Samples:
    """The set that the batches make; the figures are means over the images.

    Memory does not grow with the number of samples beyond :data:`dfq_deploy.files.arrays.IN_MEMORY`: a larger set
    lies in a temporary file that goes when the set does.
    """
    images = allocate((request.count, *request.shape))
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
    said = () if request.early_stopping is None else tuple(request.early_stopping.messages)
    return Samples(images, np.concatenate(labels) if labels else None, figures=figures, notes=(*notes, *said))
