"""The training loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfq_deploy.errors import SamplesError
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.qat.batches import Batches
from dfq_deploy.qat.distillation import DistillationLoss
from dfq_deploy.qat.distributed import Processes
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.twin import Twin
from dfq_deploy.twin.precision import has_fast_bfloat16

__all__ = ["Trainer"]

LOOKS = 40
"""How often in a schedule the held-out samples are looked at, and a checkpoint is kept."""

REPORT_EVERY = 10
"""Steps between two readings of the loss: each makes a GPU wait."""

COARSE_BITS = 6
"""Layers of up to so many bits are trained in bfloat16: its eight significant bits shift a value of the grid by an
eighth of a step at most."""


class Trainer:
    """One student on its way.

    Args:
        student: its parameters are changed in place.
        teacher: the float twin of the same prepared graph.
        lesson: the loss.
        batches: what both see.
        held_out: inputs (N, ...) that training does not see, for the agreement that is shown.
        total: number of steps.
        processes: that train together.
    """

    def __init__(
        self,
        student: QuantizedStudent,
        teacher: Twin,
        lesson: DistillationLoss,
        recipe: Recipe,
        batches: Batches,
        held_out: Tensor,
        total: int,
        processes: Processes | None = None,
    ) -> None:
        self.student, self.teacher, self.lesson, self.recipe = student, teacher, lesson, recipe
        self.batches, self.held_out, self.total = batches, held_out, total
        self.processes = processes or Processes()
        self.step = 0
        self.groups = _groups(student, recipe)
        self.optimizer = _optimizer(self.groups, recipe)
        self.coarse = has_fast_bfloat16(held_out.device) and _largest_width(student) <= COARSE_BITS
        self._wanted: Tensor | None = None

    def run(self, keep: Callable[[Mapping[str, Any]], None] | None = None, progress: Progress = SILENT) -> float:
        """Take all steps that are left; the agreement with the teacher on the held-out samples, in percent.

        Args:
            keep: is handed the state now and then, and at the end.

        Raises:
            SamplesError: the loss became NaN or infinite.
        """
        progress.start("finetune", self.total)
        progress.advance(self.step)
        pause = max(1, self.total // LOOKS)
        shown = {"agreement": self.agreement()}
        while self.step < self.total:
            loss = self.learn()
            self.step += 1
            last = self.step == self.total
            if self.step % pause == 0 or last:
                shown["agreement"] = self.agreement()
                if keep is not None:
                    keep(self.state())
            if self.step % REPORT_EVERY == 0 or last:
                shown = {"loss": _finite(loss, self.step), "agreement": shown["agreement"]}
            progress.advance(1, **shown)
        return shown["agreement"]

    def learn(self) -> Tensor:
        """One step of the optimizer, which :meth:`run` counts; the loss, detached."""
        share = self.recipe.share(self.step, self.total)
        for group, rate in zip(self.optimizer.param_groups, self.groups.values(), strict=True):
            group["lr"] = rate.peak * share
        images, labels = self.batches.batch(self.step, self.student)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.coarse):
            with torch.no_grad():
                wanted = self.teacher.run({self.teacher.input_names[0]: images}, keep=self.lesson.kept)
            given = self.student.run(images, keep=self.lesson.kept)
        loss = self.lesson.loss(given, wanted, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.processes.average([parameter for rate in self.groups.values() for parameter in rate.parameters])
        self.optimizer.step()
        self.student.constrain()
        return loss.detach()

    @torch.no_grad()
    def agreement(self) -> float:
        """On the held-out samples, in float32: percent of equal classes, or dB where there are no classes."""
        name = self.lesson.scores or self.lesson.outputs[0]
        parts = torch.split(self.held_out, self.recipe.batch)
        if self._wanted is None:
            feed = self.teacher.input_names[0]
            self._wanted = torch.cat([self.teacher.run({feed: part})[name] for part in parts])
        given = torch.cat([self.student.run(part)[name] for part in parts])
        return self.lesson.agreement(given, self._wanted)

    def state(self) -> dict[str, Any]:
        """Everything that goes on where it stopped."""
        learned = {name: value.detach().clone() for name, value in self.student.learned().items()}
        return {
            "step": self.step,
            "student": learned,
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the state that :meth:`state` gave back."""
        with torch.no_grad():
            for name, value in self.student.learned().items():
                value.copy_(state["student"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.restore(state["batches"])
        self.step = int(state["step"])


@dataclass(frozen=True)
class _Group:
    """Parameters of one kind, and their learning rate at the top of the cosine."""

    parameters: tuple[nn.Parameter, ...]
    peak: float


def _groups(student: QuantizedStudent, recipe: Recipe) -> dict[str, _Group]:
    peaks = {
        "weights": recipe.weight_rate,
        "biases": recipe.bias_rate,
        "steps": recipe.step_rate,
        "zero_points": recipe.zero_point_rate,
    }
    found: dict[str, list[nn.Parameter]] = {kind: [] for kind in peaks}
    for name, parameter in student.learned().items():
        found[_kind(name)].append(parameter)
    return {kind: _Group(tuple(found[kind]), peak) for kind, peak in peaks.items() if found[kind] and peak}


def _kind(name: str) -> str:
    if name.endswith("log_step"):
        return "steps"
    if name.endswith("zero_point"):
        return "zero_points"
    return "weights" if name.startswith("weights") else "biases"


def _optimizer(groups: Mapping[str, _Group], recipe: Recipe) -> torch.optim.Optimizer:
    listed = [{"params": list(group.parameters), "lr": group.peak} for group in groups.values()]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(listed, momentum=0.9, nesterov=True)
    return torch.optim.Adam(listed, fused=True)


def _largest_width(student: QuantizedStudent) -> int:
    """Bits of the finest encoding that a layer multiplies, behind the network's input."""
    found = student.encodings()
    read = {name for step in student.twin.steps if is_op(step, WEIGHTED_OPS) for name in step.inputs[:2]}
    return max((found[name].qtype.bits for name in read & found.keys() - set(student.twin.input_names)), default=32)


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss)
    if not abs(value) < float("inf"):
        raise SamplesError(f"finetune: the loss is {value} after {step} steps; lower the learning rates")
    return value
