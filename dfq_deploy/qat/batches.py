"""Training batches: a function of seed, step and process alone."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import Source, Student
from dfq_deploy.samples.augmentation import Augmentation

__all__ = ["Batches", "DrawnBatches", "FixedBatches", "seeded"]


def seeded(*numbers: int) -> torch.Generator:
    """A generator of its own for each list of numbers, on the CPU."""
    word = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word >> 1))


class Batches(Protocol):
    """Gives the batch of each step."""

    def batch(self, step: int, student: Student) -> tuple[Tensor, Tensor | None]:
        """Inputs (N, ...) and soft labels (N, K), if there are any, on the training device."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to keep beside the step."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state that :meth:`state` gave back."""
        ...


class FixedBatches(Batches):
    """Shuffled passes over a fixed set; each process takes its own part of a pass.

    Args:
        images: (N, ...) on the CPU; a batch is moved to ``device``.
        labels: soft labels (N, K), or None.
        size: of a batch; a set that is smaller is one batch.
        process: number of this process, and of all of them.
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
        rounds = len(self.images) // (self.size * processes)
        turn = step % rounds * processes + rank
        chosen = self._pass(step // rounds)[turn * self.size : (turn + 1) * self.size]
        labels = None if self.labels is None else self.labels[chosen].to(self.device)
        generator = seeded(self.seed, 1, rank, step)
        return self.augmentation(self.images[chosen].to(self.device), labels, generator)

    def _pass(self, number: int) -> Tensor:
        if self._order[0] != number:
            self._order = (number, torch.randperm(len(self.images), generator=seeded(self.seed, 0, number)))
        return self._order[1]

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        del state


class DrawnBatches(Batches):
    """Batches of which a part is drawn fresh from a source, which adapts to the student in turn.

    Args:
        source: draws samples; its state goes into the checkpoint.
        fixed: gives the rest of each batch.
        fresh: number of samples that are drawn for each batch.
        adapt_every: steps between two of the source; 0 leaves it as it is.
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
            kept = len(images) - self.fresh
            parts.append((images[:kept], None if labels is None else labels[:kept]))
        known = [labels for _, labels in parts if labels is not None]
        together = torch.cat([images for images, _ in parts])
        return together, torch.cat(known) if len(known) == len(parts) else None

    def state(self) -> dict[str, Any]:
        return {"source": self.source.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.source.restore(state["source"])
