"""Run a float model with some of its layers quantized, in torch or in ONNX Runtime."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.editing import Names
from dfq_deploy.graph.operators import WEIGHTED_OPS
from dfq_deploy.graph.task import score_output
from dfq_deploy.quantization.fake_quant import fake_quantizers
from dfq_deploy.runtime.runner import Output, Runner
from dfq_deploy.runtime.session import expose_tensors
from dfq_deploy.samples.batches import as_twin_input
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Hook, Step
from dfq_deploy.twin.teacher import teacher_of
from dfq_deploy.verdict.noise.layers import QuantizedLayer

__all__ = ["Engine", "QuantizedTensors", "RuntimeEngine", "TwinEngine"]

Outputs: TypeAlias = tuple[Output, ...]


KEPT_STATES = 4
"""Places behind which the float tensors are kept: groups of layers that are halved begin at few."""


@dataclass(frozen=True, eq=False)
class QuantizedTensors:
    """What rounding makes of tensors.

    Args:
        activations: encoding of each activation.
        constants: each quantized weight or operand after its round trip through the integers.
    """

    activations: Mapping[str, Encoding]
    constants: Mapping[str, NDArray[np.float32]]


class Engine(Protocol):
    """Runs the model on a few samples."""

    name: str
    halves: bool
    """True if a layer's run starts at the layer, so that all of them cost half as much."""

    def together(self, layers: Collection[QuantizedLayer]) -> Outputs:
        """The model's outputs with these layers quantized, in order; with none of them it is the float model."""
        ...

    def alone(self, layers: Sequence[QuantizedLayer]) -> Iterator[tuple[QuantizedLayer, Outputs]]:
        """Each of ``layers``, in the graph's order, and the outputs with it alone quantized."""
        ...

    def tensors(self, layers: Collection[QuantizedLayer], names: Sequence[str]) -> tuple[NDArray[Any], ...]:
        """Activations with these layers quantized, before they are rounded themselves."""
        ...


class TwinEngine:
    """The twin in torch: what lies before a layer runs once for all of them.

    Args:
        corrected: take the mean shift of each channel out of what a quantized convolution or matrix product writes, as
            a corrected bias does (:mod:`dfq_deploy.refinement.bias_correction`).

    Raises:
        ModelError: the twin cannot run the model.
    """

    name = "twin"
    halves = True

    def __init__(
        self,
        model: ir.Model,
        rounded: QuantizedTensors,
        samples: Samples,
        device: str = "cpu",
        *,
        corrected: bool = False,
    ) -> None:
        self.corrected = corrected
        self.twin = teacher_of(model, samples.extra, device)
        self.outputs = _in_file_order(model, self.twin.output_names)
        images = torch.from_numpy(as_twin_input(model, samples)).to(device)
        self.feed = images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
        self.hooks: dict[str, Hook] = dict(fake_quantizers(rounded.activations, device))
        for name, values in rounded.constants.items():
            self.hooks[name] = _constant(torch.from_numpy(values).to(device))
        steps = self.twin.steps
        self.places = {step.name: place for place, step in enumerate(steps)}
        self._last = {name: place for place, step in enumerate(steps) for name in step.inputs}
        self._last.update(dict.fromkeys(self.twin.output_names, len(steps)))
        self._states: dict[int, dict[str, Tensor]] = {0: {self.twin.input_names[0]: self.feed}}

    def together(self, layers: Collection[QuantizedLayer]) -> Outputs:
        """The outputs with these layers quantized."""
        first = min((self.places[layer.node] for layer in layers), default=0)
        return self._outputs(self._run(self._steps(layers)[first:], self._before(first)))

    def tensors(self, layers: Collection[QuantizedLayer], names: Sequence[str]) -> tuple[NDArray[Any], ...]:
        """Activations by name."""
        found = self._run(self._steps(layers), {self.twin.input_names[0]: self.feed}, tuple(names))
        return tuple(found[name].cpu().numpy() for name in names)

    def alone(self, layers: Sequence[QuantizedLayer]) -> Iterator[tuple[QuantizedLayer, Outputs]]:
        """The outputs with each layer alone quantized."""
        steps = self.twin.steps
        for layer in layers:
            place = self.places[layer.node]
            rounded = self._rounded(steps[place], layer), *steps[place + 1 :]
            yield layer, self._outputs(self._run(rounded, self._before(place)))

    def _before(self, place: int) -> dict[str, Tensor]:
        """The tensors in float that the steps from ``place`` on read, from the nearest place before that is known."""
        known = max(other for other in self._states if other <= place)
        state = self._states[known]
        if known == place:
            return state
        steps = self.twin.steps[known:place]
        made = {name for step in steps for name in step.outputs if name}
        kept = tuple(name for name in (made | state.keys()) if self._last.get(name, -1) >= place)
        if len(self._states) > KEPT_STATES:
            del self._states[min(other for other in self._states if other)]
        self._states[place] = self._run(steps, state, kept, bare=True)
        return self._states[place]

    def _steps(self, layers: Collection[QuantizedLayer]) -> tuple[Step, ...]:
        chosen = {layer.node: layer for layer in layers}
        return tuple(
            self._rounded(step, chosen[step.name]) if step.name in chosen else step for step in self.twin.steps
        )

    @torch.no_grad()
    def _run(
        self, steps: Sequence[Step], state: Mapping[str, Tensor], keep: tuple[str, ...] = (), *, bare: bool = False
    ) -> dict[str, Tensor]:
        """Run some steps from the tensors of ``state``; ``bare`` returns only what is to be kept."""
        outputs = keep if bare else tuple(dict.fromkeys((*self.twin.output_names, *keep)))
        return self.twin.run_part(steps, state, outputs)

    def _outputs(self, found: Mapping[str, Tensor]) -> Outputs:
        values: list[Any] = [found[name] for name in self.outputs]
        return tuple(
            value.cpu().numpy() if isinstance(value, Tensor) else tuple(part.cpu().numpy() for part in value)
            for value in values
        )

    def _rounded(self, step: Step, layer: QuantizedLayer) -> Step:
        reads = [(place, self.hooks[name]) for place, name in layer.reads]
        writes = {place: self.hooks[name] for place, name in layer.writes}
        operator = step.operator
        axis = (1 if step.op_type in ("Conv", "ConvTranspose") else -1) if self.corrected and layer.weight else None
        axis = axis if step.op_type in WEIGHTED_OPS else None

        def rounded(*arguments: Any) -> Any:
            given = list(arguments)
            for place, hook in reads:
                given[place] = hook(given[place])
            result = operator(*given)
            exact = operator(*arguments) if axis is not None else None
            if axis is not None and isinstance(result, Tensor) and isinstance(exact, Tensor):
                result = exact + _without_shift(result - exact, axis)
            if not writes:
                return result
            parts = result if isinstance(result, tuple) else (result,)
            parts = tuple(writes[place](part) if place in writes else part for place, part in enumerate(parts))
            return parts if isinstance(result, tuple) else parts[0]

        return replace(step, operator=rounded)


def _without_shift(error: Tensor, axis: int) -> Tensor:
    """The error without each channel's mean; as large as it is on samples that the mean was not taken from (Bessel)."""
    others = [dim for dim in range(error.ndim) if dim != axis % error.ndim]
    count = error.numel() // error.shape[axis]
    if count < 2:
        return error
    return (error - error.mean(dim=others, keepdim=True)) * math.sqrt(count / (count - 1))


def _constant(values: Tensor) -> Hook:
    laid = values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
    return lambda _: laid


class RuntimeEngine:
    """ONNX Runtime, on copies of the graph in which some layers read rounded tensors: for what the twin cannot run.

    Bias correction needs the twin, so nothing is corrected here.
    """

    name = "onnxruntime"
    halves = False

    def __init__(self, model: ir.Model, rounded: QuantizedTensors, samples: Samples) -> None:
        self.model, self.rounded, self.samples = model, rounded, samples

    def together(self, layers: Collection[QuantizedLayer]) -> Outputs:
        """The outputs with these layers quantized."""
        return tuple(Runner(self._variant(layers), name="the model").run(self.samples))

    def alone(self, layers: Sequence[QuantizedLayer]) -> Iterator[tuple[QuantizedLayer, Outputs]]:
        """The outputs with each layer alone quantized."""
        return ((layer, self.together([layer])) for layer in layers)

    def tensors(self, layers: Collection[QuantizedLayer], names: Sequence[str]) -> tuple[NDArray[Any], ...]:
        """Activations by name."""
        shown = Runner(expose_tensors(self._variant(layers), names), name="the model")
        parts = [shown.feed(part) for part, _ in shown.batches(self.samples)]
        return tuple(
            np.concatenate(column) if column[0].ndim else np.stack(column) for column in zip(*parts, strict=True)
        )

    def _variant(self, layers: Collection[QuantizedLayer]) -> ir.Model:
        copy = self.model.clone()
        writer = _Rounding(copy.graph, self.rounded)
        chosen = {layer.node: layer for layer in layers}
        for node in list(copy.graph):
            layer = chosen.get(str(node.name))
            if layer is not None:
                writer.round_reads(node, layer)
                writer.round_writes(node, layer)
        return copy


class _Rounding:
    """Puts Div, Round, Clip and Mul before inputs of nodes: a round trip through integers of any width."""

    def __init__(self, graph: ir.Graph, rounded: QuantizedTensors) -> None:
        self.graph, self.rounded, self.names = graph, rounded, Names(graph)
        self.made: dict[str, ir.Value] = {}

    def round_reads(self, node: ir.Node, layer: QuantizedLayer) -> None:
        for place, name in layer.reads:
            value = node.inputs[place]
            if value is None:
                continue
            if name not in self.made:
                constant = self.rounded.constants.get(name)
                rounded = self._rounded(value, name, node) if constant is None else self._held(constant, name)
                self.made[name] = rounded
            node.replace_input_with(place, self.made[name])

    def round_writes(self, node: ir.Node, layer: QuantizedLayer) -> None:
        for place, name in layer.writes:
            value = node.outputs[place]
            rounded = self._rounded(value, name, None)
            for index in [i for i, listed in enumerate(self.graph.outputs) if listed is value]:
                self.graph.outputs[index] = rounded
            value.name, rounded.name = self.names.fresh(f"{name}_float"), name

    def _rounded(self, value: ir.Value, name: str, before: ir.Node | None) -> ir.Value:
        """``value`` through the integers of tensor ``name``; before a node, or at the graph's end."""
        encoding = self.rounded.activations[name]
        zero = int(encoding.zero_point)
        scale = self._held(np.asarray(encoding.scale, np.float32), name)
        ends = [
            self._held(np.asarray(end - zero, np.float32), name) for end in (encoding.qtype.qmin, encoding.qtype.qmax)
        ]
        result = value
        for operator, inputs in (("Div", [scale]), ("Round", []), ("Clip", ends), ("Mul", [scale])):
            node = ir.node(operator, [result, *inputs], name=self.names.fresh(f"{name}_{operator}"))
            result = node.outputs[0]
            result.name, result.type, result.shape = self.names.fresh(f"{node.name}_output"), value.type, value.shape
            if before is None:
                self.graph.append(node)
            else:
                self.graph.insert_before(before, node)
        return result

    def _held(self, array: NDArray[np.float32], base: str) -> ir.Value:
        tensor = ir.Tensor(array, name=self.names.fresh(f"{base}_held"))
        kind, shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=tensor.name, shape=shape, type=kind, const_value=tensor)
        self.graph.register_initializer(value)
        return value


def _in_file_order(model: ir.Model, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the twin's outputs, of which the class scores are the first, in the order of the file."""
    scores = score_output(model)
    if scores is None:
        return tuple(names)
    place = list(model.graph.outputs).index(scores)
    return (*names[1 : place + 1], names[0], *names[place + 1 :])
