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
    """The same samples in batches of ``size``; None takes the length of the first one.

    The last batch is filled up with samples from the front, which then count twice: TensorRT takes whole batches only,
    and to drop the rest would lose what may hold the largest values. What is not as long as the batch stays as it is.

    Raises:
        SamplesError: there is no sample, or none for ``batched_by``.
    """
    front: Feeds | None = None
    rest: Feeds = {}
    rows: _Rows | None = None
    for feeds in batches:
        if _length(feeds, batched_by) == 0:
            continue
        rows = rows or _Rows.of(feeds, batched_by)
        joined = rows.joined(rest, feeds) if rest else feeds
        length = _length(joined, batched_by)
        size = size or length
        stop = length - length % size
        for start in range(0, stop, size):
            whole = rows.taken(joined, slice(start, start + size))
            front = front or whole
            yield whole
        rest = rows.taken(joined, slice(stop, None)) if stop < length else {}
    if rows is None or size is None:
        raise SamplesError("samples: none to calibrate with; at least one is needed")
    if rest:
        filling = front or rest
        missing = np.arange(size - _length(rest, batched_by)) % _length(filling, batched_by)
        yield rows.joined(rest, rows.taken(filling, missing))


def _length(feeds: Feeds, batched_by: str) -> int:
    if not feeds:
        return 0
    if batched_by not in feeds or feeds[batched_by].ndim == 0:
        raise SamplesError(f"samples: no batch for input '{batched_by}'; fed {', '.join(sorted(feeds))}")
    return len(feeds[batched_by])


@dataclass(frozen=True)
class _Rows:
    """The inputs that have a row for each sample; the others are the same in every batch."""

    names: frozenset[str]

    @classmethod
    def of(cls, feeds: Feeds, batched_by: str) -> "_Rows":
        length = _length(feeds, batched_by)
        return cls(frozenset(name for name, array in feeds.items() if array.ndim and len(array) == length))

    def joined(self, first: Feeds, second: Feeds) -> Feeds:
        return {
            name: np.concatenate([first[name], array]) if name in self.names else array
            for name, array in second.items()
        }

    def taken(self, feeds: Feeds, index: slice | NDArray[np.intp]) -> Feeds:
        return {name: array[index] if name in self.names else array for name, array in feeds.items()}


class DeviceBatches:
    """Copies one batch at a time to a device and keeps it there until the next one.

    Args:
        batches: all of one size, at least one.
        batched_by: the input whose length is the batch size.
        device: as torch names it.
        total: samples, for progress.
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
        self._held: dict[str, Tensor] = {}
        self.shapes = {name: array.shape for name, array in self._next.items()}
        self.size = len(self._next[batched_by])
        progress.start("calibrate", total)

    def advance(self, names: Sequence[str]) -> list[int] | None:
        """The addresses of the next batch's arrays, in the order of ``names``; None where there is no batch left.

        Raises:
            SamplesError: nothing is fed to an input.
        """
        import torch

        if self._held:
            self._progress.advance(self.size)
        self._held = {}
        if self._next is None:
            return None
        missing = [name for name in names if name not in self._next]
        if missing:
            raise SamplesError(f"samples: nothing for input '{missing[0]}'; fed {', '.join(sorted(self._next))}")
        for name in names:
            array = np.require(self._next[name], requirements=["C", "W"])
            self._held[name] = torch.from_numpy(array).to(self._device)
        self._next = next(self._batches, None)
        return [self._held[name].data_ptr() for name in names]
