"""Training batches, determined by seed, step and process."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dfq_deploy.files.arrays import release_at
from dfq_deploy.plugins.contracts import Source, Student
from dfq_deploy.samples.augmentation import Augmentation

__all__ = ["Batches", "DrawnBatches", "FixedBatches", "seeded"]


def seeded(*numbers: int) -> torch.Generator:
    """Return a CPU generator that is seeded with a list of numbers."""
    word = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word >> 1))


class Batches(Protocol):
    """Provides the batch of each step."""

    def batch(self, step: int, student: Student) -> tuple[Tensor, Tensor | None]:
        """Return inputs (N, ...) and soft labels (N, K), if there are any, on the training device."""
        ...

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, without the step."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state that :meth:`state` returned."""
        ...


class FixedBatches(Batches):
    """Shuffled passes over a fixed set; each process takes its own part of a pass.

    Args:
        images: (N, ...) on the CPU; a batch is moved to ``device``.
        labels: soft labels (N, K), or None.
        size: batch size; a smaller set is one batch.
        augmentation: applied to each batch.
        seed: determines order and augmentation.
        process: rank of this process, and number of processes.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        size: int,
        augmentation: Augmentation,
        seed: int,
        device: str = "cpu",
        process: tuple[int, int] = (0, 1),
    ) -> None:
        self.images, self.labels, self.augmentation = images, labels, augmentation
        self.seed, self.device, self.process = seed, device, process
        self.size = min(size, max(1, len(images) // process[1]))
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def batch(self, step: int, student: Student) -> tuple[Tensor, Tensor | None]:
        rank, processes = self.process
        batches_per_pass = len(self.images) // (self.size * processes)
        number = step % batches_per_pass * processes + rank
        indices = self._pass(step // batches_per_pass)[number * self.size : (number + 1) * self.size]
        labels = None if self.labels is None else self.labels[indices].to(self.device)
        generator = seeded(self.seed, 1, rank, step)
        images = self.images[indices].to(self.device)
        release_at(self.images.untyped_storage().data_ptr())
        return self.augmentation(images, labels, generator)

    def _pass(self, number: int) -> Tensor:
        if self._order[0] != number:
            self._order = (number, torch.randperm(len(self.images), generator=seeded(self.seed, 0, number)))
        return self._order[1]

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        del state


class DrawnBatches(Batches):
    """Batches that contain fresh samples from a source, which adapts to the student.

    Args:
        source: draws samples; its state is part of the checkpoint.
        fixed: provides the rest of each batch.
        fresh: number of samples drawn for each batch.
        adapt_every: number of student steps between two steps of the source; 0 never adapts it.
    """

    def __init__(self, source: Source, fixed: FixedBatches, fresh: int, adapt_every: int) -> None:
        self.source, self.fixed, self.fresh, self.adapt_every = source, fixed, fresh, adapt_every

    def batch(self, step: int, student: Student) -> tuple[Tensor, Tensor | None]:
        generator = seeded(self.fixed.seed, 2, self.fixed.process[0], step)
        if self.adapt_every and step % self.adapt_every == 0:
            self.source.adapt([student], generator)
        parts: list[tuple[Tensor, Tensor | None]] = []
        if self.fresh:
            images, labels = self.source.draw(self.fresh, generator)
            parts = [self.fixed.augmentation(images.float(), labels, generator)]
        if self.fixed.size > self.fresh:
            images, labels = self.fixed.batch(step, student)
            remaining = len(images) - self.fresh
            parts.append((images[:remaining], None if labels is None else labels[:remaining]))
        all_labels = [labels for _, labels in parts if labels is not None]
        joined = torch.cat([images for images, _ in parts])
        return joined, torch.cat(all_labels) if len(all_labels) == len(parts) else None

    def state(self) -> dict[str, Any]:
        return {"source": self.source.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.source.restore(state["source"])
