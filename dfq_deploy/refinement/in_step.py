"""Run a block on more samples than the graph takes: each node on one after another."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from dfq_deploy.refinement.blocks import Block
from dfq_deploy.twin import GroupHook, Hook, Twin

__all__ = ["BlockRuns", "InStep", "with_rows"]


class BlockRuns(Protocol):
    """Runs a block: a twin, or :class:`InStep`."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def run(
        self, feeds: Mapping[str, Tensor], *, keep: Collection[str] = (), hooks: Mapping[str, Hook] | None = None
    ) -> dict[str, Tensor]:
        """The outputs and the tensors to keep by name, as :meth:`dfq_deploy.twin.Twin.run` has them."""
        ...


class InStep:
    """A twin with one input that takes as many samples as the graph fixes, run on more of them.

    Args:
        twin: of a block.
        batch: samples of one run.
    """

    def __init__(self, twin: Twin, batch: int) -> None:
        self.twin, self.batch = twin, batch
        self.input_names, self.output_names = twin.input_names, twin.output_names

    def run(
        self, feeds: Mapping[str, Tensor], *, keep: Collection[str] = (), hooks: Mapping[str, Hook] | None = None
    ) -> dict[str, Tensor]:
        """Run node by node, each node on all samples before the next one.

        Args:
            feeds: (N, ...) of the one input; the last run is filled up with the last sample.
            hooks: are given the tensors of all runs, joined along their first axis.

        Returns:
            the outputs, (N, ...), and the kept tensors, joined along their first axis.
        """
        (name,) = self.input_names
        rows = feeds[name]
        runs = torch.split(_filled(rows, self.batch), self.batch)
        results: dict[str, Tensor] = {}
        own = {wanted: _at_once(hook) for wanted, hook in (hooks or {}).items()}
        for wanted in dict.fromkeys([*keep, *self.output_names]):
            of_sample = self.batch if wanted in self.output_names else None
            own[wanted] = _recording(wanted, results, own.get(wanted), of_sample)
        self.twin.run_in_step([{name: run} for run in runs], own)
        return {
            wanted: found[: len(rows)] if wanted in self.output_names else found for wanted, found in results.items()
        }


def with_rows(blocks: Sequence[Block], twin: Twin, sample: Tensor, batch: int) -> tuple[Block, ...]:
    """Blocks between whose tensors the first axis counts samples; those between which it does not become one.

    Args:
        twin: that ``blocks`` are of.
        sample: a feed of one run, (``batch``, ...).
    """
    with torch.no_grad():
        found = twin.run({twin.input_names[0]: sample}, keep=[block.output for block in blocks])
    merged: list[Block] = []
    for block in blocks:
        last = merged[-1] if merged else None
        if last is not None and not _counts(found[last.output], batch):
            joined = replace(last, output=block.output, steps=(*last.steps, *block.steps))
            merged[-1] = replace(joined, weights=(*last.weights, *block.weights))
        else:
            merged.append(block)
    return tuple(merged)


def _counts(values: Tensor, batch: int) -> bool:
    return values.ndim > 0 and len(values) == batch


def _filled(rows: Tensor, batch: int) -> Tensor:
    """``rows`` with the last one again, up to whole runs."""
    missing = -len(rows) % batch
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows


def _at_once(hook: Hook) -> GroupHook:
    """``hook`` on what all runs have, joined."""

    def apply(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        if len(tensors) == 1 or tensors[0].ndim == 0:
            return [hook(values) for values in tensors]
        return torch.split(hook(torch.cat(list(tensors))), [len(values) for values in tensors])

    return apply


def _recording(name: str, results: dict[str, Tensor], then: GroupHook | None, batch: int | None) -> GroupHook:
    """Takes note of what the runs leave at ``name``, after its own hook.

    Args:
        batch: samples of one run, which the first axis of an output counts; None joins what is there.
    """

    def record(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        changed = list(tensors if then is None else then(tensors))
        if batch is None or _counts(changed[0], batch):
            results[name] = torch.cat(changed)
        else:
            results[name] = torch.stack(changed).repeat_interleave(batch, 0)
        return changed

    return record
