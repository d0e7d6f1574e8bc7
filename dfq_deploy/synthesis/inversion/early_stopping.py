"""Early stopping when calibration ranges converge."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.plugins.contracts import EarlyStopping, RangeMeter
from dfq_deploy.synthesis.inversion.loop import Inversion
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["AUTO", "CHECKS", "DEFAULT", "ConvergenceWatch", "range_meter"]

CHECKS = 20
"""In the last stage of a descent, evenly spread: each costs a run forward."""

AUTO = "auto"
"""The tolerance that suits the schedule: :data:`DEFAULT` on a paper's, none on a short one or a given number."""

DEFAULT = 0.02
"""Chosen on the digits example (128 images, training digits): with 0.02 to 0.1 the scores' signal to noise at W8A8
and W4A4 is that of the whole schedule, to 0.8 dB, for 70 to 20 % of its iterations; the statistics come less near.
"""

PATIENCE = 2
"""Checks in a row with little change that end a descent."""


def range_meter(teacher: Twin) -> RangeMeter:
    """Measures smallest and largest value of all that convolutions and matrix products of ``teacher`` read, and of its
    first output.
    """
    produced = {name for step in teacher.steps for name in step.outputs}
    read = {step.inputs[0] for step in teacher.steps if is_op(step, WEIGHTED_OPS)} & produced
    names = [*sorted(read), teacher.output_names[0]]

    @torch.no_grad()
    def measure(images: Tensor) -> Tensor:
        found: dict[str, Tensor] = {}

        def noting(name: str) -> Hook:
            def note(values: Tensor) -> Tensor:
                found[name] = torch.stack(torch.aminmax(values)).float()
                return values

            return note

        with autocast(images.device):
            teacher.run({teacher.input_names[0]: images}, hooks={name: noting(name) for name in names})
        return torch.stack([found[name] for name in names])

    return measure


class ConvergenceWatch:
    """Looks at one descent after each iteration (it is an :data:`~dfq_deploy.synthesis.inversion.loop.After`)."""

    def __init__(self, early_stopping: EarlyStopping, run: Inversion, index: int) -> None:
        self.early_stopping, self.index, self.total = early_stopping, index, run.iterations
        # Earlier stages see shrunk images, whose ranges say nothing.
        self.start = run.iterations - run.stages[-1].iterations
        self.every = max(1, run.stages[-1].iterations // CHECKS)
        self.before: Tensor | None = None
        self.calm = 0

    def __call__(self, step: int, images: Tensor) -> bool:
        """True when the ranges have hardly moved for two checks."""
        if step <= self.start or (step - self.start) % self.every or step == self.total:
            return False
        ranges = self.early_stopping.meter(images)
        moved = 1.0 if self.before is None else _movement(self.before, ranges)
        self.before = ranges
        self.calm = self.calm + 1 if moved < self.early_stopping.tolerance else 0
        if self.calm < PATIENCE:
            return False
        self.early_stopping.messages.append(
            f"batch {self.index + 1} stopped after {step} of {self.total} iterations: the ranges of {len(ranges)} "
            f"tensors moved by less than {100 * self.early_stopping.tolerance:g} % of their span in {PATIENCE} "
            f"checks in a row, {self.every} iterations apart"
        )
        return True

    def state(self) -> dict[str, Any]:
        """What the next check compares with."""
        return {"before": self.before, "calm": self.calm}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state that :meth:`state` gave back."""
        self.before, self.calm = state["before"], state["calm"]


def _movement(before: Tensor, after: Tensor) -> float:
    span = (after[:, 1] - after[:, 0]).clamp_min(1e-12)
    return float(((after - before).abs().amax(1) / span).mean())
