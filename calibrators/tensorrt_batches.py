"""Batches for TensorRT's calibrators: all of one size, in device memory, passed as addresses."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError
from dfq_deploy.graph.inputs import Feeds
from dfq_deploy.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DeviceBatches", "equal_batches"]


def equal_batches(batches: Iterable[Feeds], batched_by: str, size: int | None = None) -> Iterator[Feeds]:
    """Yield the same samples in batches of ``size``; None is the length of the first batch.

    The last batch is padded with the first samples, which then count twice: TensorRT accepts full batches only, and
    dropping the rest could lose the largest values. Arrays without a row per sample are not changed.

    Raises:
        SamplesError: there are no samples, or no data for ``batched_by``.
    """
    first_batch: Feeds | None = None
    rest: Feeds = {}
    batched_inputs: _BatchedInputs | None = None
    for feeds in batches:
        if _length(feeds, batched_by) == 0:
            continue
        batched_inputs = batched_inputs or _BatchedInputs.of(feeds, batched_by)
        concatenated = batched_inputs.concatenated(rest, feeds) if rest else feeds
        length = _length(concatenated, batched_by)
        size = size or length
        stop = length - length % size
        for start in range(0, stop, size):
            batch = batched_inputs.selected(concatenated, slice(start, start + size))
            first_batch = first_batch or batch
            yield batch
        rest = batched_inputs.selected(concatenated, slice(stop, None)) if stop < length else {}
    if batched_inputs is None or size is None:
        raise SamplesError("samples: none to calibrate with; at least one is needed")
    if rest:
        padding = first_batch or rest
        missing = np.arange(size - _length(rest, batched_by)) % _length(padding, batched_by)
        yield batched_inputs.concatenated(rest, batched_inputs.selected(padding, missing))


def _length(feeds: Feeds, batched_by: str) -> int:
    if not feeds:
        return 0
    if batched_by not in feeds or feeds[batched_by].ndim == 0:
        raise SamplesError(f"samples: no batch for input '{batched_by}'; fed {', '.join(sorted(feeds))}")
    return len(feeds[batched_by])


@dataclass(frozen=True)
class _BatchedInputs:
    """The names of the inputs with one row per sample; the others are the same in every batch."""

    names: frozenset[str]

    @classmethod
    def of(cls, feeds: Feeds, batched_by: str) -> "_BatchedInputs":
        length = _length(feeds, batched_by)
        return cls(frozenset(name for name, array in feeds.items() if array.ndim and len(array) == length))

    def concatenated(self, first: Feeds, second: Feeds) -> Feeds:
        return {
            name: np.concatenate([first[name], array]) if name in self.names else array
            for name, array in second.items()
        }

    def selected(self, feeds: Feeds, index: slice | NDArray[np.intp]) -> Feeds:
        return {name: array[index] if name in self.names else array for name, array in feeds.items()}


class DeviceBatches:
    """Copies one batch at a time to a device, where it stays until the next one.

    Args:
        batches: at least one, all of the same size.
        batched_by: the input whose length is the batch size.
        device: torch's name of the device.
        total: number of samples, for progress.
    """

    def __init__(
        self,
        batches: Iterable[Feeds],
        batched_by: str,
        device: str,
        total: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        self._batches = iter(batches)
        self._next: Feeds | None = next(self._batches)
        self._device = device
        self._progress = progress
        self._tensors: dict[str, Tensor] = {}
        self.shapes = {name: array.shape for name, array in self._next.items()}
        self.size = len(self._next[batched_by])
        progress.start("calibrate", total)

    def advance(self, names: Sequence[str]) -> list[int] | None:
        """Return the addresses of the next batch's arrays, in the order of ``names``; None after the last batch.

        Raises:
            SamplesError: the batch has no data for an input.
        """
        import torch

        if self._tensors:
            self._progress.advance(self.size)
        self._tensors = {}
        if self._next is None:
            return None
        missing = [name for name in names if name not in self._next]
        if missing:
            raise SamplesError(f"samples: nothing for input '{missing[0]}'; fed {', '.join(sorted(self._next))}")
        for name in names:
            array = np.require(self._next[name], requirements=["C", "W"])
            self._tensors[name] = torch.from_numpy(array).to(self._device)
        self._next = next(self._batches, None)
        return [self._tensors[name].data_ptr() for name in names]
