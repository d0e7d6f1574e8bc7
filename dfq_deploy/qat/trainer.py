"""The training loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dfq_deploy.errors import SamplesError
from dfq_deploy.files.arrays import release_at
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.qat.batches import Batches
from dfq_deploy.qat.distillation import DistillationLoss
from dfq_deploy.qat.distributed import Processes
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.twin import Twin
from dfq_deploy.twin.kept_memory import kept_bytes
from dfq_deploy.twin.precision import has_fast_bfloat16
from dfq_deploy.validation.budget import allowance, in_megabytes, note

__all__ = ["Trainer"]

EVALUATIONS = 40
"""How often in a schedule the held-out samples are evaluated, and a checkpoint is saved."""

REPORT_EVERY = 10
"""Steps between two reports of the loss: each synchronizes with the GPU."""

MEMORY = 2**30
"""Bytes that the student may keep between forward and backward pass on the CPU, the same on all machines: a larger
batch is run in parts, whose gradients add up. A small ``--max-memory`` leaves less
(:mod:`dfq_deploy.validation.budget`)."""

BFLOAT16_BITS = 6
"""Layers of at most this width are trained in bfloat16: its eight significant bits shift a quantized value by an
eighth of a step at most."""


class Trainer:
    """Trains one student.

    Args:
        student: its parameters are changed in place.
        teacher: the float twin of the same prepared graph.
        loss_function: the distillation loss.
        recipe: the hyper-parameters.
        batches: training batches of student and teacher.
        held_out: inputs (N, ...) that are not trained on, for the reported agreement.
        total: number of steps.
        processes: this process and the number of processes.
    """

    def __init__(
        self,
        student: QuantizedStudent,
        teacher: Twin,
        loss_function: DistillationLoss,
        recipe: Recipe,
        batches: Batches,
        held_out: Tensor,
        total: int,
        processes: Processes | None = None,
    ) -> None:
        self.student, self.teacher, self.loss_function, self.recipe = student, teacher, loss_function, recipe
        self.batches, self.held_out, self.total = batches, held_out, total
        self.processes = processes or Processes()
        self.step = 0
        self.groups = _groups(student, recipe)
        self.optimizer = _optimizer(self.groups, recipe)
        self.in_bfloat16 = has_fast_bfloat16(held_out.device) and _largest_width(student) <= BFLOAT16_BITS
        self._teacher_outputs: Tensor | None = None
        self._most: int | None = None

    def run(self, keep: Callable[[Mapping[str, Any]], None] | None = None, progress: Progress = SILENT) -> float:
        """Train to the end of the schedule.

        Args:
            keep: is called with the state from time to time, and at the end.

        Returns:
            the agreement with the teacher on the held-out samples, as of :meth:`agreement`.

        Raises:
            SamplesError: the loss became NaN or infinite.
        """
        progress.start("finetune", self.total)
        progress.advance(self.step)
        interval = max(1, self.total // EVALUATIONS)
        figures = {"agreement": self.agreement()}
        while self.step < self.total:
            loss = self.learn()
            self.step += 1
            last = self.step == self.total
            if self.step % interval == 0 or last:
                figures["agreement"] = self.agreement()
                if keep is not None:
                    keep(self.state())
            if self.step % REPORT_EVERY == 0 or last:
                figures = {"loss": _finite(loss, self.step), "agreement": figures["agreement"]}
            progress.advance(1, **figures)
        return figures["agreement"]

    def learn(self) -> Tensor:
        """Take one step of the optimizer and return the detached loss; :meth:`run` counts the steps.

        A batch that does not fit into :data:`MEMORY` is run in parts; a relative squared error is then the mean of
        those of the parts.
        """
        factor = self.recipe.share(self.step, self.total)
        for group, rate in zip(self.optimizer.param_groups, self.groups.values(), strict=True):
            group["lr"] = rate.peak * factor
        images, labels = self.batches.batch(self.step, self.student)
        self.optimizer.zero_grad(set_to_none=True)
        count = -(-len(images) // self._most_at_once(images))
        losses = []
        for index in range(count):
            part = slice(index * len(images) // count, (index + 1) * len(images) // count)
            loss = self._loss(images[part], None if labels is None else labels[part])
            loss = loss * (part.stop - part.start) / len(images) if count > 1 else loss
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        self.processes.average([parameter for rate in self.groups.values() for parameter in rate.parameters])
        self.optimizer.step()
        self.student.constrain()
        return torch.stack(losses).sum()

    def _loss(self, images: Tensor, labels: Tensor | None) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            with torch.no_grad():
                teacher_outputs = self.teacher.run(
                    {self.teacher.input_names[0]: images}, keep=self.loss_function.kept_tensors
                )
            student_outputs = self.student.run(images, keep=self.loss_function.kept_tensors)
        return self.loss_function.loss(student_outputs, teacher_outputs, labels)

    def _most_at_once(self, images: Tensor) -> int:
        """How many images (N, ...) run at once: all on a GPU."""
        if images.device.type != "cpu" or len(images) < 2:
            return len(images)
        if self._most is None:
            weights = [*self.student.parameters(), *self.student.buffers()]
            # What the weights take is the same for one image and for two.
            one, two = (kept_bytes(self.student.run, images[:size], weights) for size in (1, 2))
            self._most, usual = (max(1, limit // max(1, two - one)) for limit in (allowance(MEMORY), MEMORY))
            if self._most < min(usual, len(images)):
                left = in_megabytes(allowance(MEMORY))
                parts = f"{-(-len(images) // self._most)} parts"
                note(f"--max-memory leaves {left} to the features of a batch, so training ran its batches in {parts}")
        return self._most

    @torch.no_grad()
    def agreement(self) -> float:
        """Return the agreement on the held-out samples, in float32: percent of equal classes, or dB without classes."""
        name = self.loss_function.scores or self.loss_function.outputs[0]
        parts = torch.split(self.held_out, self.recipe.batch)
        if self._teacher_outputs is None:
            feed = self.teacher.input_names[0]
            self._teacher_outputs = torch.cat([self.teacher.run({feed: part})[name] for part in parts])
        student_outputs = torch.cat([self.student.run(part)[name] for part in parts])
        release_at(self.held_out.untyped_storage().data_ptr())
        return self.loss_function.agreement(student_outputs, self._teacher_outputs)

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        learned = {name: value.detach().clone() for name, value in self.student.learned().items()}
        return {
            "step": self.step,
            "student": learned,
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a state that :meth:`state` returned."""
        with torch.no_grad():
            for name, value in self.student.learned().items():
                value.copy_(state["student"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.restore(state["batches"])
        self.step = int(state["step"])


@dataclass(frozen=True)
class _Group:
    """Parameters of one kind, and their peak learning rate."""

    parameters: tuple[nn.Parameter, ...]
    peak: float


def _groups(student: QuantizedStudent, recipe: Recipe) -> dict[str, _Group]:
    peaks = {
        "weights": recipe.weight_rate,
        "biases": recipe.bias_rate,
        "steps": recipe.step_rate,
        "zero_points": recipe.zero_point_rate,
    }
    parameters: dict[str, list[nn.Parameter]] = {kind: [] for kind in peaks}
    for name, parameter in student.learned().items():
        parameters[_kind(name)].append(parameter)
    return {kind: _Group(tuple(parameters[kind]), peak) for kind, peak in peaks.items() if parameters[kind] and peak}


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
    """Return the largest width of any encoding that a layer multiplies, except the network's input."""
    encodings = student.encodings()
    inputs = {name for step in student.twin.steps if is_op(step, WEIGHTED_OPS) for name in step.inputs[:2]}
    return max(
        (encodings[name].qtype.bits for name in inputs & encodings.keys() - set(student.twin.input_names)), default=32
    )


def _finite(loss: Tensor, step: int) -> float:
    value = float(loss)
    if not abs(value) < float("inf"):
        raise SamplesError(f"finetune: the loss is {value} after {step} steps; lower the learning rates")
    return value
