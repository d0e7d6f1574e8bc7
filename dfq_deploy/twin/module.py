"""The Twin: an ONNX graph as a torch module."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir
import torch
from onnx_ir.passes.common import InlinePass
from torch import Tensor, nn

from dfq_deploy.errors import ModelError
from dfq_deploy.twin.importer import check_operators, import_graph
from dfq_deploy.twin.in_step import hooks_of_runs, runs_of
from dfq_deploy.twin.program import GroupHook, Hook, Program, Step
from dfq_deploy.twin.registry import Operator

__all__ = ["Twin"]


class Twin(nn.Module):
    """An ONNX graph as a differentiable torch module.

    Float initializers are parameters with ``requires_grad=False``, all others buffers; tensors keep their ONNX names.

    Attributes:
        input_names: names of the inputs in the order of the graph, without initializers that are listed as inputs.
        output_names: names of the outputs in the order of the graph.
        batch: samples that the graph takes at once where it fixes their number; None: any. More samples of a single
            input are then run one batch after another, node by node, as if the graph took them together.
    """

    def __init__(self, program: Program, initializers: Collection[str], inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.input_names = inputs
        self.output_names = program.outputs
        self.batch: int | None = None
        self._program = program
        self._attributes: dict[str, str] = {}
        for name, tensor in program.constants.items():
            if name in initializers or name in program.used or name in program.outputs:
                self._store(name, tensor)
        self._replaced = nn.ModuleDict()

    @classmethod
    def from_model(cls, model: ir.Model) -> "Twin":
        """Import a model, preferably one that was read with :func:`dfq_deploy.graph.loading.load`.

        Raises:
            UnsupportedOperators: lists every node whose operator is not in the registry.
            ModelError: a form of an operator or an element type is not supported.
        """
        if model.functions:
            model = model.clone()
            InlinePass()(model)
        versions = {("" if name == "ai.onnx" else name): version for name, version in model.opset_imports.items()}
        check_operators(model.graph, versions)
        program = import_graph(model.graph, versions)
        return cls(program, model.graph.initializers.keys(), program.inputs)

    def _store(self, name: str, tensor: Tensor) -> None:
        stem = re.sub(r"\W", "_", name) or "constant"
        attribute, count = stem, 1
        while hasattr(self, attribute):
            attribute, count = f"{stem}_{count}", count + 1
        self._attributes[name] = attribute
        if tensor.is_floating_point():
            self.register_parameter(attribute, nn.Parameter(tensor, requires_grad=False))
        else:
            self.register_buffer(attribute, tensor)

    def part(self, steps: Sequence[Step], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> "Twin":
        """A twin of consecutive steps with the given inputs and outputs; weights are shared.

        Args:
            steps: in order; they may read only ``inputs``, initializers, and outputs of each other.
            inputs: names of the tensors to feed.
            outputs: names of the tensors to return.
        """
        twin = Twin(Program(inputs, outputs, tuple(steps), self._program.constants), (), inputs)
        twin.batch = self.batch
        return twin

    def run_part(
        self, steps: Sequence[Step], feeds: Mapping[str, Tensor], outputs: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """Run consecutive steps once, as a :meth:`part` would, without making a module of them.

        Args:
            steps: in order; they may read only what is fed, initializers, and outputs of each other.
            feeds: tensors by name.
            outputs: names of the tensors to return.
        """
        needed = {name for step in steps for name in step.inputs} | set(outputs)
        constants = {name: tensor for name, tensor in self._program.constants.items() if name in needed}
        program = Program(tuple(feeds), outputs, tuple(steps), constants)
        held = [(name, self.initializer(name)) for name in program.used if name in self._attributes]
        return program.run([*held, *feeds.items()], self._device_of(feeds), ())

    @property
    def steps(self) -> tuple[Step, ...]:
        """The nodes in topological order, without constants and folded integer arithmetic."""
        return self._program.steps

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run on the inputs in order; returns a single output as a tensor, several as a tuple."""
        if len(inputs) != len(self.input_names):
            raise ModelError(f"{len(inputs)} inputs given; the model takes {len(self.input_names)}: {self.input_names}")
        results = self.run(dict(zip(self.input_names, inputs, strict=True)))
        outputs = tuple(results[name] for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def run(
        self,
        feeds: Mapping[str, Tensor],
        *,
        keep: Collection[str] = (),
        hooks: Mapping[str, Hook] | None = None,
    ) -> dict[str, Tensor]:
        """Run on named inputs.

        Args:
            feeds: all inputs by name.
            keep: names of intermediate tensors to return too; all others are freed after their last use.
            hooks: functions by tensor name. Each is applied to its tensor as soon as it is computed or fed (for an
                initializer: at the start), and its result replaces the tensor.

        Returns:
            the outputs and the kept tensors by name.

        Raises:
            ModelError: an input is missing, or a name is not in the graph.
        """
        self._check(feeds, keep, hooks or {})
        first = feeds[self.input_names[0]] if len(self.input_names) == 1 else None
        if first is not None and self.batch is not None and len(first) > self.batch:
            return self._in_runs(first, self.batch, tuple(keep), hooks or {})
        device = self._device_of(feeds)
        return self._program.run(self._fed(feeds), device, keep, hooks)

    def _in_runs(self, rows: Tensor, batch: int, keep: Sequence[str], hooks: Mapping[str, Hook]) -> dict[str, Tensor]:
        results: dict[str, Tensor] = {}
        feeds = [{self.input_names[0]: run} for run in runs_of(rows, batch)]
        self.run_in_step(feeds, hooks_of_runs(hooks, self.output_names, keep, batch, results))
        return results | {name: results[name][: len(rows)] for name in self.output_names}

    def run_in_step(self, feeds: Sequence[Mapping[str, Tensor]], hooks: Mapping[str, GroupHook]) -> None:
        """Run on several sets of named inputs, node by node: each node on all of them before the next one.

        What samples have in common, such as the mean of a tensor, is so known while they are run one at a time.

        Args:
            feeds: all inputs by name, of at least one run.
            hooks: functions by tensor name. Each is given its tensor of all runs and returns what replaces it; an
                initializer, which all runs share, is given once.

        Raises:
            ModelError: an input is missing, or a name is not in the graph.
        """
        for fed in feeds:
            self._check(fed, (), hooks)
        self._program.run_in_step([self._fed(fed) for fed in feeds], self._device_of(feeds[0]), hooks)

    def _fed(self, feeds: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
        """Initializers and inputs by name."""
        parameters, buffers = self._parameters, self._buffers
        tensors: list[tuple[str, Tensor]] = []
        for name, attribute in self._attributes.items():
            tensor = parameters[attribute] if attribute in parameters else buffers[attribute]
            if tensor is not None:
                tensors.append((name, tensor))
        tensors.extend((name, feeds[name]) for name in self.input_names)
        return tensors

    def _device_of(self, feeds: Mapping[str, Tensor]) -> torch.device:
        return next((value.device for value in feeds.values() if isinstance(value, Tensor)), torch.device("cpu"))

    def _check(self, feeds: Mapping[str, Tensor], keep: Collection[str], hooks: Collection[str]) -> None:
        missing = [name for name in self.input_names if name not in feeds]
        if missing:
            raise ModelError(f"input '{missing[0]}' is not fed; the model takes {', '.join(self.input_names)}")
        slots = self._program.slots
        for name in (*feeds, *keep, *hooks):
            if name not in slots:
                raise ModelError(f"tensor '{name}' is not in the graph; its inputs are {', '.join(self.input_names)}")

    def replace(self, node_name: str, operator: Operator) -> None:
        """Replace the implementation of one node; ``operator`` takes its inputs in order and returns its outputs.

        A torch module is registered as a submodule of the twin, so that ``to`` and ``parameters`` include it.

        Raises:
            ModelError: there is no such node.
        """
        index = next((index for index, step in enumerate(self.steps) if step.name == node_name), None)
        if index is None:
            raise ModelError(f"node '{node_name}' is not in the graph")
        steps = list(self.steps)
        steps[index] = dataclasses.replace(steps[index], operator=operator)
        self._program = self._program.with_steps(tuple(steps))
        if isinstance(operator, nn.Module):
            self._replaced[f"step_{index}"] = operator

    def initializer(self, name: str) -> Tensor:
        """The parameter or buffer that holds an initializer.

        Raises:
            ModelError: there is no initializer of that name.
        """
        attribute = self._attributes.get(name)
        if attribute is None:
            raise ModelError(f"initializer '{name}' is not in the graph")
        tensor: Tensor = getattr(self, attribute)
        return tensor
