"""Batches: every sample once in a pass, each process its own, and nothing but the step decides."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dfq_deploy.plugins.contracts import Source, Student
from dfq_deploy.qat.batches import DrawnBatches, FixedBatches, seeded
from dfq_deploy.samples.augmentation import Augmentation

PLAIN = Augmentation(flip=False, shift=0, soften=0.0, blend=0.0, cut=0.0)


def numbered(count: int) -> Tensor:
    return torch.arange(float(count)).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


def same(images: Tensor) -> Tensor:
    return images


def test_a_pass_shows_every_sample_once_among_all_processes() -> None:
    seen = []
    for rank in range(2):
        batches = FixedBatches(numbered(24), None, 4, PLAIN, seed=0, process=(rank, 2))
        seen += [batches.batch(step, same)[0][:, 0, 0, 0] for step in range(3)]
    assert sorted(torch.cat(seen).tolist()) == list(range(24))


def test_passes_differ_and_a_step_can_be_repeated() -> None:
    batches = FixedBatches(numbered(12), torch.eye(12), 4, PLAIN, seed=3)
    passes = [torch.cat([batches.batch(step, same)[0][:, 0, 0, 0] for step in range(n, n + 3)]) for n in (0, 3)]
    assert passes[0].tolist() != passes[1].tolist()
    images, labels = FixedBatches(numbered(12), torch.eye(12), 4, PLAIN, seed=3).batch(4, same)
    assert labels is not None
    assert torch.equal(images, batches.batch(4, same)[0])
    assert labels.argmax(1).tolist() == images[:, 0, 0, 0].tolist()


def test_a_small_set_is_one_batch() -> None:
    assert len(FixedBatches(numbered(5), None, 64, PLAIN, seed=0).batch(7, same)[0]) == 5


def test_seeds_of_numbers() -> None:
    draws = [float(torch.rand((), generator=seeded(*numbers))) for numbers in ((1, 2), (1, 2), (2, 1), (12,))]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


class Counting(Source):
    """Draws its own number of steps, 1,000 times."""

    def __init__(self) -> None:
        self.steps, self.students = 0, 0

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return torch.full((count, 1, 2, 2), 1000.0 + self.steps), torch.ones(count, 12) / 12

    def adapt(self, students: Sequence[Student], generator: torch.Generator) -> dict[str, float]:
        self.steps += 1
        self.students += len(students)
        return {}

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.steps = int(state["steps"])


@pytest.mark.parametrize(("fresh", "every"), [(1, 1), (3, 2), (4, 0)])
def test_a_part_of_each_batch_is_drawn_anew(fresh: int, every: int) -> None:
    source = Counting()
    batches = DrawnBatches(source, FixedBatches(numbered(12), torch.eye(12), 4, PLAIN, seed=0), fresh, every)
    for step in range(4):
        images, labels = batches.batch(step, same)
        assert labels is not None
        assert labels.shape == (4, 12)
        drawn = images[:, 0, 0, 0] >= 1000
        assert int(drawn.sum()) == fresh
        assert set(images[drawn][:, 0, 0, 0].tolist()) == {1000.0 + (step // every + 1 if every else 0)}
    assert source.students == source.steps
    other = DrawnBatches(Counting(), batches.fixed, fresh, every)
    other.restore(batches.state())
    assert other.state() == {"source": {"steps": source.steps}}
