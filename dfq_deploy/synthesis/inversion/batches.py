"""Invert the samples in batches and collect the results."""

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
from dfq_deploy.synthesis.inversion.early_stopping import ConvergenceCheck
from dfq_deploy.synthesis.inversion.loop import Inversion, work_of

__all__ = ["Batch", "BatchPlan", "balanced_targets", "batch_sizes", "collect", "invert_batches", "split_into_batches"]


@dataclass(frozen=True, eq=False)
class BatchPlan:
    """The size and the target classes of one batch.

    Args:
        index: position of the batch in the set, from 0.
        size: number of images.
        targets: target classes int64 (size,), on the CPU; None if the model does not classify.
    """

    index: int
    size: int
    targets: Tensor | None


@dataclass(frozen=True, eq=False)
class Batch:
    """The result of one batch.

    Args:
        images: float32 (n, ...).
        labels: float32 (n, K) soft labels, or None.
        figures: metrics of the batch, by name; the set reports their means.
        notes: sentences on how it was run.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.float32] | None
    figures: dict[str, float]
    notes: tuple[str, ...] = ()


def balanced_targets(request: SynthesisRequest, generator: torch.Generator) -> Tensor | None:
    """Target classes (N,) in random order; each class appears floor(N / K) or ceil(N / K) times."""
    if request.classes is None:
        return None
    rounds = math.ceil(request.count / request.classes)
    targets = torch.cat([torch.randperm(request.classes, generator=generator) for _ in range(rounds)])
    return targets[: request.count]


def batch_sizes(count: int, largest: int) -> list[int]:
    """Sizes of the batches for ``count`` images: they differ by at most one, because the statistics of a small last
    batch would be unreliable.
    """
    batches = math.ceil(count / largest)
    return [count // batches + (index < count % batches) for index in range(batches)]


def split_into_batches(count: int, largest: int, targets: Tensor | None) -> list[BatchPlan]:
    """Split ``count`` images and their targets into batches of at most ``largest`` images."""
    sizes = batch_sizes(count, largest)
    per_batch: Sequence[Tensor | None] = [None] * len(sizes) if targets is None else torch.split(targets, sizes)
    return [BatchPlan(index, size, part) for index, (size, part) in enumerate(zip(sizes, per_batch, strict=True))]


def invert_batches(
    plans: Iterable[BatchPlan], start: Callable[[BatchPlan], Inversion], progress: Progress, request: SynthesisRequest
) -> Iterator[Batch]:
    """Invert the batches one after the other and yield each result before the next batch starts.

    If the request has a journal, finished batches are loaded from it, and the interrupted one resumes from its last
    saved state.

    Args:
        start: creates the inversion of a batch; it draws from the method's generator, so batches are started in order.
    """
    journal = request.journal
    generator_state: Tensor | None = None
    for plan in plans:
        finished = None if journal is None else journal.load_batch(plan.index)
        if finished is not None:
            generator_state = finished["generator"]
            progress.advance(finished["work"])
            if request.early_stopping is not None:
                request.early_stopping.messages.extend(finished["said"])
            notes = tuple(finished["notes"])
            yield Batch(finished["images"].numpy(), _array(finished["labels"]), finished["figures"], notes)
            continue
        run = start(plan)
        if generator_state is not None:
            # The previous batches were not started here: restore the generator as they left it, then start again.
            run.generator.set_state(generator_state)
            run, generator_state = start(plan), None
        _run(run, plan, progress, request)
        batch = _result(run, plan)
        if journal is not None:
            stopped = request.early_stopping if run.step < run.iterations else None
            messages = [] if stopped is None else stopped.messages[-1:]
            record = {"generator": run.generator.get_state(), "work": run.work, "said": messages}
            result = {name: getattr(batch, name) for name in ("images", "labels", "figures")}
            journal.save_batch(plan.index, record | result | {"notes": list(batch.notes)})
        yield batch


def _run(run: Inversion, plan: BatchPlan, progress: Progress, request: SynthesisRequest) -> None:
    """Run to the end of the schedule or until the ranges have converged; save the state to the journal when due."""
    journal = request.journal
    check = None if request.early_stopping is None else ConvergenceCheck(request.early_stopping, run, plan.index)
    saved = None if journal is None else journal.load_state()
    # A run that is killed when it has written a batch, and not yet removed the state, leaves that of a finished one.
    if saved is not None and saved["batch"] == plan.index:
        run.restore(saved["run"])
        progress.advance(work_of(run.stages, run.step))
        if check is not None:
            check.restore(saved["watch"])

    def after_iteration(step: int, images: Tensor) -> bool:
        converged = check is not None and check(step, images)
        if journal is not None and not converged and step < run.iterations and journal.is_due():
            watch = {} if check is None else check.state()
            journal.save_state({"batch": plan.index, "run": run.state(), "watch": watch})
        return converged

    run.run(progress, after_iteration)
    if run.step < run.iterations:
        progress.advance(run.work - work_of(run.stages, run.step))


def _array(labels: Tensor | None) -> NDArray[np.float32] | None:
    return None if labels is None else labels.numpy()


def _result(run: Inversion, plan: BatchPlan) -> Batch:
    images = run.images
    soft_labels, figures = run.objective.evaluate(images)
    if soft_labels is not None and plan.targets is not None:
        figures = figures | {"target_hit": float((soft_labels.argmax(1).cpu() == plan.targets).float().mean())}
    labels = None if soft_labels is None else soft_labels.cpu().numpy()
    return Batch(images.contiguous().cpu().numpy(), labels, figures, run.objective.notes())


def collect(request: SynthesisRequest, batches: Iterable[Batch], notes: tuple[str, ...] = ()) -> Samples:
    """Collect the batches into one set of samples; its figures are means over the images.

    Memory does not grow with the number of samples beyond :data:`dfq_deploy.files.arrays.IN_MEMORY`: a larger set
    is kept in a temporary file that is deleted with the set.
    """
    images = allocate((request.count, *request.shape))
    labels: list[NDArray[np.float32]] = []
    figures: dict[str, float] = {}
    said: dict[str, None] = {}
    filled = 0
    for batch in batches:
        size = len(batch.images)
        images[filled : filled + size] = batch.images
        filled += size
        labels += [] if batch.labels is None else [batch.labels]
        said |= dict.fromkeys(batch.notes)
        for name, value in batch.figures.items():
            figures[name] = figures.get(name, 0.0) + value * size / request.count
    messages = () if request.early_stopping is None else tuple(request.early_stopping.messages)
    return Samples(
        images, np.concatenate(labels) if labels else None, figures=figures, notes=(*notes, *messages, *said)
    )
