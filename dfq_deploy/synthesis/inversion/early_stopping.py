"""Early stopping when calibration ranges converge."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.plugins.contracts import EarlyStopping, RangeFunction
from dfq_deploy.synthesis.inversion.loop import Inversion
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.twin.precision import autocast

__all__ = ["AUTO", "CHECKS", "DEFAULT", "ConvergenceCheck", "range_function"]

CHECKS = 20
"""Number of checks in the last stage of an inversion, evenly spaced. Each costs one forward pass."""

AUTO = "auto"
"""The tolerance for the schedule: :data:`DEFAULT` for ``paper``, none for ``short`` or a fixed number of iterations."""

DEFAULT = 0.02
"""Chosen on the digits example (128 images, training digits): with 0.02 to 0.1 the signal-to-noise ratio of the scores
at W8A8 and W4A4 is within 0.8 dB of that of the whole schedule, for 70 to 20 % of its iterations; the statistics are
matched less closely.
"""

PATIENCE = 2
"""Number of consecutive checks below the tolerance that end an inversion."""


def range_function(teacher: Twin) -> RangeFunction:
    """A function that measures the smallest and the largest value of each input of the convolutions and matrix products
    of ``teacher``, and of its first output.
    """
    produced = {name for step in teacher.steps for name in step.outputs}
    layer_inputs = {step.inputs[0] for step in teacher.steps if is_op(step, WEIGHTED_OPS)} & produced
    names = [*sorted(layer_inputs), teacher.output_names[0]]

    @torch.no_grad()
    def measure(images: Tensor) -> Tensor:
        ranges: dict[str, Tensor] = {}

        def recorder(name: str) -> Hook:
            def record(values: Tensor) -> Tensor:
                ranges[name] = torch.stack(torch.aminmax(values)).float()
                return values

            return record

        with autocast(images.device):
            teacher.run({teacher.input_names[0]: images}, hooks={name: recorder(name) for name in names})
        return torch.stack([ranges[name] for name in names])

    return measure


class ConvergenceCheck:
    """Checks after each iteration of one inversion whether the ranges have converged.

    It is an :data:`~dfq_deploy.synthesis.inversion.loop.AfterIteration`.
    """

    def __init__(self, early_stopping: EarlyStopping, run: Inversion, index: int) -> None:
        self.early_stopping, self.index, self.total = early_stopping, index, run.iterations
        # Earlier stages run on downscaled images, whose ranges are not comparable.
        self.start = run.iterations - run.stages[-1].iterations
        self.every = max(1, run.stages[-1].iterations // CHECKS)
        self.previous: Tensor | None = None
        self.stable_checks = 0

    def __call__(self, step: int, images: Tensor) -> bool:
        """True when the ranges have moved by less than the tolerance in :data:`PATIENCE` consecutive checks."""
        if step <= self.start or (step - self.start) % self.every or step == self.total:
            return False
        ranges = self.early_stopping.measure_ranges(images)
        movement = 1.0 if self.previous is None else _movement(self.previous, ranges)
        self.previous = ranges
        self.stable_checks = self.stable_checks + 1 if movement < self.early_stopping.tolerance else 0
        if self.stable_checks < PATIENCE:
            return False
        self.early_stopping.messages.append(
            f"batch {self.index + 1} stopped after {step} of {self.total} iterations: the ranges of {len(ranges)} "
            f"tensors moved by less than {100 * self.early_stopping.tolerance:g} % of their span in {PATIENCE} "
            f"checks in a row, {self.every} iterations apart"
        )
        return True

    def state(self) -> dict[str, Any]:
        """The ranges of the last check and the number of consecutive stable checks."""
        return {"before": self.previous, "calm": self.stable_checks}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the state that :meth:`state` returned."""
        self.previous, self.stable_checks = state["before"], state["calm"]


def _movement(before: Tensor, after: Tensor) -> float:
    span = (after[:, 1] - after[:, 0]).clamp_min(1e-12)
    return float(((after - before).abs().amax(1) / span).mean())
