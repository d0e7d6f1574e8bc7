"""Compute the activations of a float model, a few samples at a time.

Memory depends on the model, not on the number of samples or the batch size.
"""

import logging
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError, SamplesError, is_out_of_memory
from dfq_deploy.graph.inputs import Feeds, input_values, main_input_value
from dfq_deploy.graph.main_input import words_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.runtime.session import RUNTIME_ERRORS, Session, expose_tensors, runtime_message, session_options
from dfq_deploy.validation.budget import allowance, in_megabytes, note

__all__ = ["activations"]

logger = logging.getLogger(__name__)

Tensors: TypeAlias = "dict[str, NDArray[Any]]"

BEHIND = re.compile(r"must be within the inclusive range \[-?\d+,(\d+)\]")
"""How ONNX Runtime says what an index may be."""

SLICE_ELEMENTS = 4_000_000
"""Number of elements of all requested tensors in one run: 16 MB of float32; two runs are in memory at a time. A small
``--max-memory`` leaves fewer (:mod:`dfq_deploy.validation.budget`)."""


def activations(
    model: ir.Model, names: Collection[str], batches: Iterable[Feeds], progress: Progress = SILENT
) -> Generator[Tensors, None, None]:
    """Yield the tensors ``names`` for all samples of ``batches``, in order, a slice of the samples at a time.

    While the caller processes one slice, the next one is computed. A model with a fixed batch size is fed slices of
    that size; a shorter last slice is padded, and the padding is removed from the results.

    Args:
        model: is not changed.
        names: graph inputs, graph outputs or intermediate tensors; not initializers.
        batches: each maps every input to an array; arrays as long as the image input are sliced together.
        progress: counts samples.

    Yields:
        name -> array of shape (samples of this slice, ...).

    Raises:
        ModelError: the model has no such tensor, or ONNX Runtime cannot load it.
        SamplesError: there is no sample, or the samples do not fit the model.
    """
    runner = _TensorSession(model, names)
    first, rest = _first_batch(batches, runner.batched_by)
    rows = runner.batch or _rows_at_once(runner.elements(first))
    total = _rows(first, runner.batched_by) * (len(batches) if isinstance(batches, Sized) else 0)
    progress.start("calibrate", total)
    with ThreadPoolExecutor(1) as executor:
        pending: Future[Tensors] | None = None
        count = 0
        for feeds in chain([first], rest):
            for part, part_rows in _slices(feeds, runner.batched_by, rows):
                submitted = executor.submit(runner.run, part, part_rows)
                if pending is not None:
                    yield pending.result()
                    progress.advance(count)
                pending, count = submitted, part_rows
        if pending is not None:
            yield pending.result()
            progress.advance(count)
        if runner.halved:  # in another thread, which has no notes
            note(f"calibration ran out of memory on {runner.halved} samples at once, and took half of them")


def _way_out(problem: Exception, feeds: Feeds) -> str:
    """Options that draw smaller indices, where one lay behind what it indexes; empty for every other problem."""
    found = BEHIND.search(str(problem))
    integers = [name for name, array in feeds.items() if np.issubdtype(array.dtype, np.integer)]
    ids = [name for name in integers if "mask" not in words_of(name)]
    if found is None or not ids:
        return ""
    return f"; draw indices that fit, e.g. {' '.join(f'--input-range {name}:0,{found[1]}' for name in ids)}"


def _rows_at_once(elements: int) -> int:
    """How many samples run at once that have so many elements each."""
    usual = max(1, SLICE_ELEMENTS // max(1, elements))
    allowed = max(1, allowance(SLICE_ELEMENTS) // max(1, elements))
    if allowed < usual:
        left = in_megabytes(4 * allowance(SLICE_ELEMENTS))
        note(f"--max-memory leaves {left} to a run of calibration, so {allowed} samples ran at once instead of {usual}")
    return allowed


class _TensorSession:
    """A session that computes the requested tensors of one slice."""

    def __init__(self, model: ir.Model, names: Collection[str]) -> None:
        self._inputs = [value.name or "" for value in input_values(model)]
        value = main_input_value(model)
        self.batched_by = value.name or ""
        dim = None if value.shape is None or not len(value.shape) else value.shape[0]
        self.batch = dim if isinstance(dim, int) and dim > 0 else None
        self._fed = [name for name in names if name in self._inputs]
        self._computed = [name for name in names if name not in self._inputs]
        self._session = _session(model, self._computed) if self._computed else None
        self.halved = 0  # samples of the largest run for which memory did not suffice

    def elements(self, feeds: Feeds) -> int:
        """Count the elements of the requested tensors per sample by running the first sample."""
        part, rows = next(_slices(feeds, self.batched_by, self.batch or 1))
        return sum(tensor.size for tensor in self.run(part, rows).values())

    def run(self, feeds: Feeds, rows: int, *, halved: bool = False) -> Tensors:
        """Compute the requested tensors of one slice; in two halves where memory does not suffice.

        Args:
            halved: it is such a half.
        """
        self._check(feeds)
        padding = 0 if self.batch is None else self.batch - rows
        tensors: Tensors = {name: feeds[name] for name in self._fed}
        if self._session is None:
            return tensors
        if padding:
            feeds = {name: _padded(array, rows, padding) for name, array in feeds.items()}
        try:
            outputs = self._session.run(self._computed, dict(feeds))
        except RUNTIME_ERRORS as problem:
            if self.batch is None and rows > 1 and is_out_of_memory(problem) and not halved:
                return self._in_halves(feeds, rows)
            raise SamplesError(
                f"samples: ONNX Runtime cannot run the model on them ({runtime_message(problem)})"
                f"{_way_out(problem, feeds)}"
            ) from None
        for name, output in zip(self._computed, outputs, strict=True):
            tensors[name] = output[:rows] if padding and output.ndim and len(output) == self.batch else output
        return tensors

    def _in_halves(self, feeds: Feeds, rows: int) -> Tensors:
        logger.warning("calibration: out of memory on %d samples at once, so they run in two halves", rows)
        self.halved = max(self.halved, rows)
        halves = [self.run(part, count, halved=True) for part, count in _slices(feeds, self.batched_by, -(-rows // 2))]
        return {
            name: np.concatenate([half[name] for half in halves]) if halves[0][name].ndim else halves[0][name]
            for name in halves[0]
        }

    def _check(self, feeds: Feeds) -> None:
        if set(feeds) != set(self._inputs):
            raise SamplesError(
                f"samples: fed {', '.join(sorted(feeds)) or 'nothing'}, but the model's inputs are "
                f"{', '.join(self._inputs)}"
            )


def _session(model: ir.Model, names: Collection[str]) -> Session:
    values = {value.name for node in model.graph for value in node.outputs}
    missing = [name for name in names if name not in values]
    if missing:
        constant = missing[0] in model.graph.initializers
        raise ModelError(
            f"tensor '{missing[0]}' is "
            + ("an initializer: its range is read from its values" if constant else "not in the model's main graph")
            + "; leave it out"
        )
    try:
        # With only these outputs, ONNX Runtime does not compute unneeded tensors.
        options = session_options(quiet_threads=True)
        return Session(expose_tensors(model, names), options, ["CPUExecutionProvider"])
    except RUNTIME_ERRORS as problem:
        raise ModelError(f"ONNX Runtime cannot load the model ({runtime_message(problem)}); export it again") from None


def _rows(feeds: Feeds, batched_by: str) -> int:
    array = feeds.get(batched_by)
    if array is None or array.ndim == 0:
        raise SamplesError(f"samples: no batch for input '{batched_by}'; fed {', '.join(sorted(feeds)) or 'nothing'}")
    return len(array)


def _first_batch(batches: Iterable[Feeds], batched_by: str) -> tuple[Feeds, Iterator[Feeds]]:
    rest = iter(batches)
    for feeds in rest:
        if _rows(feeds, batched_by):
            return feeds, rest
    raise SamplesError("samples: none to calibrate with; at least one is needed")


def _slices(feeds: Feeds, batched_by: str, rows: int) -> Iterator[tuple[Feeds, int]]:
    count = _rows(feeds, batched_by)
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        whole = start == 0 and stop == count
        yield (
            {
                name: array[start:stop] if not whole and array.ndim and len(array) == count else array
                for name, array in feeds.items()
            },
            stop - start,
        )


def _padded(array: NDArray[Any], rows: int, padding: int) -> NDArray[Any]:
    if array.ndim == 0 or len(array) != rows:
        return array
    return np.concatenate([array, np.repeat(array[-1:], padding, axis=0)])
