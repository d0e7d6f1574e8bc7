"""Batches dealt out and put together; a large set never stands in memory."""

import tracemalloc
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dfq_deploy.files import arrays
from dfq_deploy.plugins.contracts import SynthesisRequest
from dfq_deploy.synthesis.inversion.batches import Batch, balanced_targets, batch_sizes, collect, split_into_batches


@pytest.mark.parametrize(
    ("count", "largest", "sizes"),
    [(256, 256, [256]), (257, 256, [129, 128]), (100, 32, [25] * 4), (10, 4, [4, 3, 3]), (1, 9, [1])],
)
def test_batches_are_of_one_size(count: int, largest: int, sizes: list[int]) -> None:
    assert batch_sizes(count, largest) == sizes


@pytest.mark.parametrize(("count", "classes"), [(7, 10), (10, 10), (23, 10), (256, 1000)])
def test_classes_are_spread_evenly_and_dealt_out(count: int, classes: int) -> None:
    request = SynthesisRequest(count, (3, 4, 4), classes)
    targets = balanced_targets(request, torch.Generator().manual_seed(0))
    assert targets is not None
    times = Counter(targets.tolist())
    assert len(targets) == count
    assert max(times.values()) - min(times.get(label, 0) for label in range(classes)) <= 1
    parts = split_into_batches(count, 9, targets)
    assert [part.index for part in parts] == list(range(len(parts)))
    assert torch.equal(torch.cat([part.targets for part in parts if part.targets is not None]), targets)
    assert balanced_targets(SynthesisRequest(count, (3, 4, 4)), torch.Generator()) is None
    assert [(part.size, part.targets) for part in split_into_batches(5, 3, None)] == [(3, None), (2, None)]


def made(count: int, size: int, side: int) -> Iterator[Batch]:
    for index in range(count):
        images = np.full((size, 1, side, side), index, np.float32)
        yield Batch(images, np.full((size, 2), index, np.float32), {"distance": float(index)})


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_set_holds_its_batches_in_order(monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY", 1 << 28 if in_memory else 0)
    samples = collect(SynthesisRequest(6, (1, 3, 3)), made(3, 2, 3), ("a note",))
    assert samples.images[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert isinstance(samples.images, np.memmap) != in_memory
    assert isinstance(samples.labels, np.ndarray)
    assert samples.labels[:, 1].tolist() == [0, 0, 1, 1, 2, 2]
    assert samples.figures == {"distance": pytest.approx(1)}
    assert samples.notes == ("a note",)


def test_figures_are_means_over_the_images() -> None:
    parts = [Batch(np.zeros((size, 2), np.float32), None, {"x": value}) for size, value in ((3, 1.0), (1, 5.0))]
    assert collect(SynthesisRequest(4, (2,)), parts).figures == {"x": pytest.approx(2)}


def test_memory_does_not_grow_with_the_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY", 0)
    monkeypatch.setattr(arrays, "BLOCK", 2**18)
    peaks = []
    for count in (4, 32):
        tracemalloc.start()
        samples = collect(SynthesisRequest(count * 64, (1, 32, 32)), made(count, 64, 32))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(samples) == count * 64
    whole = 32 * 64 * 32 * 32 * 4
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < whole / 8
