"""Feed samples to a graph that fixes its batch: join and split what its runs have."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dfq_deploy.twin.program import GroupHook, Hook

__all__ = ["counts_samples", "hooks_of_runs", "runs_of"]


def runs_of(rows: Tensor, batch: int) -> tuple[Tensor, ...]:
    """``rows`` in runs of ``batch``; the last one is filled up with the last row."""
    missing = -len(rows) % batch
    filled = torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows
    return torch.split(filled, batch)


def hooks_of_runs(
    hooks: Mapping[str, Hook], outputs: Sequence[str], keep: Sequence[str], batch: int, results: dict[str, Tensor]
) -> dict[str, GroupHook]:
    """Hooks for all runs together.

    Args:
        hooks: are given what all runs have at a tensor, joined along the first axis.
        outputs: names of tensors whose first axis is to count samples: where it is none of ``batch``, one is added.
        keep: names of tensors that are only joined.
        results: gets the outputs and the kept tensors.
    """
    found = {name: _at_once(hook) for name, hook in hooks.items()}
    for name in dict.fromkeys([*keep, *outputs]):
        found[name] = _noting(name, results, found.get(name), batch if name in outputs else None)
    return found


def counts_samples(values: Tensor, batch: int) -> bool:
    """True where the first axis of what one run has is that of ``batch`` samples."""
    return values.ndim > 0 and len(values) == batch


def _at_once(hook: Hook) -> GroupHook:
    def apply(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        if len(tensors) == 1 or tensors[0].ndim == 0:
            return [hook(values) for values in tensors]
        return torch.split(hook(torch.cat(list(tensors))), [len(values) for values in tensors])

    return apply


def _noting(name: str, results: dict[str, Tensor], then: GroupHook | None, batch: int | None) -> GroupHook:
    """Takes note of what the runs leave at ``name``, after its own hook."""

    def note(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        changed = list(tensors if then is None else then(tensors))
        joins = changed[0].ndim > 0 if batch is None else counts_samples(changed[0], batch)
        results[name] = torch.cat(changed) if joins else torch.stack(changed).repeat_interleave(batch or 1, 0)
        return changed

    return note
