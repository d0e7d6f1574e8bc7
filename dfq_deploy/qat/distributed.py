"""Distributed training: several processes (``torchrun``) train one student.

Each process has its own batches, and gradients are averaged.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from dfq_deploy.errors import DfqError, first_line, is_out_of_memory

__all__ = ["Processes", "join_processes", "own_device"]

Result = TypeVar("Result")

TIMEOUT = timedelta(hours=12)
"""How long the other processes wait while the first one synthesizes samples."""

PLACE = re.compile(r"^(\[[^\]]*:\d+\]\s*)+")
"""Where in torch's sources an error was raised."""

STEP_TIMEOUT = timedelta(minutes=30)
"""How long they wait for the gradients of a step: for a host that does not answer any more."""


@dataclass(frozen=True)
class Processes:
    """This process and the number of processes that train.

    Args:
        rank: number of this process, from 0.
        count: number of processes; 1 without ``torchrun``.
        group: exchanges the gradients; None is all processes, with :data:`TIMEOUT`.
    """

    rank: int = 0
    count: int = 1
    group: dist.ProcessGroup | None = None

    def made_once(self, make: Callable[[], Result]) -> Result:
        """Call ``make`` in the first process, and return its result in all processes.

        Raises:
            DfqError: another process ended.
        """
        if self.count == 1:
            return make()
        results: list[Result | None] = [make() if self.rank == 0 else None]
        with _loss_named():
            dist.broadcast_object_list(results, src=0)
        result = results[0]
        assert result is not None
        return result

    def synchronize(self, module: nn.Module) -> None:
        """Copy parameters and buffers of the first process to all others: their refinements may differ slightly."""
        if self.count > 1:
            state = self.made_once(lambda: {name: value.cpu() for name, value in module.state_dict().items()})
            module.load_state_dict(state)

    @torch.no_grad()
    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradients by their means over all processes, in one all-reduce.

        Raises:
            DfqError: another process ended.
        """
        if self.count == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with _loss_named():
            dist.all_reduce(flat, group=self.group)
        parts = torch.split(flat / self.count, [gradient.numel() for gradient in gradients])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Context manager: join the process group of ``torchrun``; a single process otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)  # objects are exchanged on the current GPU
    with _loss_named():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=TIMEOUT)
        group = dist.new_group(timeout=STEP_TIMEOUT)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), group)
    finally:
        dist.destroy_process_group()


@contextmanager
def _loss_named() -> Iterator[None]:
    """Say in one line that another process is gone, where torch names a closed connection in its own words."""
    try:
        yield
    except RuntimeError as problem:
        if is_out_of_memory(problem):
            raise
        raise DfqError(
            f"another process of this training ended or cannot be reached ({_reason(problem)}); look at its output, "
            "and start all processes again; --resume goes on from the last checkpoint"
        ) from None


def _reason(problem: RuntimeError) -> str:
    """The first sentence, without the place in torch's sources before it."""
    sentence = PLACE.sub("", first_line(problem)).partition(". ")[0]
    return sentence.strip()[:100] or "torch says no more"


def own_device(device: str) -> str:
    """Return the GPU of this process under ``torchrun``; any other device as it is."""
    local = os.environ.get("LOCAL_RANK")
    return f"cuda:{local}" if local is not None and device.startswith("cuda") else device
