"""The Twin: an ONNX graph as a torch module."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace as changed

import onnx_ir as ir
import torch
from onnx_ir.passes.common import InlinePass
from torch import Tensor, nn

from dfq_deploy.errors import ModelError
from dfq_deploy.twin.importer import import_graph, unsupported
from dfq_deploy.twin.program import Hook, Program, Step
from dfq_deploy.twin.registry import Operator

__all__ = ["Twin"]


class Twin(nn.Module):
    """An ONNX graph that torch differentiates.

    Float initializers are parameters without gradient, all others buffers; tensors keep their names of the graph.

    Attributes:
        input_names: the inputs to feed, in the graph's order; initializers that are listed as inputs are left out.
        output_names: the outputs, in the graph's order.
    """

    def __init__(self, program: Program, initializers: Collection[str], inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.input_names = inputs
        self.output_names = program.outputs
        self._program = program
        self._attributes: dict[str, str] = {}
        for name, tensor in program.constants.items():
            if name in initializers or name in program.used or name in program.outputs:
                self._store(name, tensor)
        self._replaced = nn.ModuleDict()

    @classmethod
    def from_model(cls, model: ir.Model) -> "Twin":
        """Import a model, best one that :func:`dfq_deploy.graph.loading.load` has read.

        Raises:
            UnsupportedOperators: names every node whose operator is not in the registry.
            ModelError: a node's form or an element type is one that the twin does not run.
        """
        if model.functions:
            model = model.clone()
            InlinePass()(model)
        versions = {("" if name == "ai.onnx" else name): version for name, version in model.opset_imports.items()}
        unsupported(model.graph, versions)
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
        """The twin of some consecutive steps, that takes tensors by name and returns others; weights are shared.

        Args:
            steps: in order; all that they read is among ``inputs``, initializers, and what they write themselves.
        """
        return Twin(Program(inputs, outputs, tuple(steps), self._program.constants), (), inputs)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The nodes in topological order; constants and what follows from integer constants alone are left out."""
        return self._program.steps

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run on the inputs in order; a single output comes bare."""
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
            feeds: every input by name.
            keep: names of tensors to return beside the outputs; all others are freed after their last use.
            hooks: by tensor name, a function that is applied to the tensor right after it is produced or fed (an
                initializer: when the run starts), and whose result takes its place.

        Returns:
            outputs and kept tensors by name.

        Raises:
            ModelError: an input is missing, or a name is not in the graph.
        """
        self._check(feeds, keep, hooks or {})
        parameters, buffers = self._parameters, self._buffers
        named: list[tuple[str, Tensor]] = []
        for name, attribute in self._attributes.items():
            tensor = parameters[attribute] if attribute in parameters else buffers[attribute]
            if tensor is not None:
                named.append((name, tensor))
        named.extend((name, feeds[name]) for name in self.input_names)
        fed = (feeds[name] for name in self.input_names)
        device = next((value.device for value in fed if isinstance(value, Tensor)), torch.device("cpu"))
        return self._program.run(named, device, keep, hooks)

    def _check(self, feeds: Mapping[str, Tensor], keep: Collection[str], hooks: Collection[str]) -> None:
        missing = [name for name in self.input_names if name not in feeds]
        if missing:
            raise ModelError(f"input '{missing[0]}' is not fed; the model takes {', '.join(self.input_names)}")
        slots = self._program.slots
        for name in (*feeds, *keep, *hooks):
            if name not in slots:
                raise ModelError(f"tensor '{name}' is not in the graph; its inputs are {', '.join(self.input_names)}")

    def replace(self, node_name: str, operator: Operator) -> None:
        """Let ``operator`` do the work of one node; it takes the node's inputs in order and returns its outputs.

        A torch module becomes a part of the twin, so that ``to`` and ``parameters`` reach it.

        Raises:
            ModelError: there is no such node.
        """
        found = [index for index, step in enumerate(self.steps) if step.name == node_name]
        if not found:
            raise ModelError(f"node '{node_name}' is not in the graph")
        steps = list(self.steps)
        steps[found[0]] = changed(steps[found[0]], operator=operator)
        self._program = self._program.with_steps(tuple(steps))
        if isinstance(operator, nn.Module):
            self._replaced[f"step_{found[0]}"] = operator

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
