"""Run a float model in ONNX Runtime with a switch for the rounding of each layer."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.editing import Names, add_constant, mean_axes
from dfq_deploy.graph.inputs import main_input_value
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.runtime.runner import Output, Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.noise.engines import QuantizedTensors, RuntimeEngine
from dfq_deploy.verdict.noise.layers import QuantizedLayer

__all__ = ["SwitchEngine"]

SWITCHES = "dfq_switches"
"""The input that tells, for each sample and layer, whether the layer is rounded; the first sample's row counts."""


class SwitchEngine:
    """One session for all layers: each node is an If that takes either the node as it is, or one that reads integers.

    Args:
        layers: all that may be switched on.
        corrected: take the mean shift of each channel out of what a quantized convolution or matrix product writes, as
            a corrected bias does.

    Raises:
        ModelError: a layer has a graph of its own, or writes a tensor of unknown rank.
    """

    name = "onnxruntime"
    halves = False

    def __init__(
        self,
        model: ir.Model,
        rounded: QuantizedTensors,
        samples: Samples,
        layers: Sequence[QuantizedLayer],
        *,
        corrected: bool = False,
    ) -> None:
        self.places = {layer.node: place for place, layer in enumerate(layers)}
        self.samples, self.plain = samples, RuntimeEngine(model, rounded, samples)
        switched = _Switched(model.clone(), rounded, corrected=corrected)
        for place, layer in enumerate(layers):
            switched.switch(layer, place)
        main = name_of(main_input_value(model))
        self.runner = Runner(switched.ended(len(layers)), name="the model", main=main, quiet_threads=True)

    def together(self, layers: Collection[QuantizedLayer]) -> tuple[Output, ...]:
        """The outputs with these layers quantized."""
        switches = np.zeros((len(self.samples), len(self.places)), np.float32)
        switches[:, [self.places[layer.node] for layer in layers]] = 1
        return tuple(self.runner.run(replace(self.samples, extra={**self.samples.extra, SWITCHES: switches})))

    def alone(self, layers: Sequence[QuantizedLayer]) -> Iterator[tuple[QuantizedLayer, tuple[Output, ...]]]:
        """The outputs with each layer alone quantized."""
        return ((layer, self.together([layer])) for layer in layers)

    def tensors(self, layers: Collection[QuantizedLayer], names: Sequence[str]) -> tuple[NDArray[Any], ...]:
        """Activations by name."""
        return self.plain.tensors(layers, names)


class _Switched:
    """A graph in which nodes become switches."""

    def __init__(self, model: ir.Model, rounded: QuantizedTensors, *, corrected: bool) -> None:
        self.model, self.graph, self.rounded, self.corrected = model, model.graph, rounded, corrected
        self.names = Names(model.graph)
        self.nodes = {str(node.name): node for node in model.graph}
        self.held: dict[str, ir.Value] = {}
        self.row = self._node("Gather", [_input(SWITCHES), self._constant(np.array(0, np.int64))]).outputs[0]

    def switch(self, layer: QuantizedLayer, place: int) -> None:
        """Replace the layer's node by an If."""
        node = self.nodes[layer.node]
        if any(
            attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        ):
            raise ModelError(f"{node.op_type} '{node.name}' has a graph of its own, which is not switched")
        chosen = self._node("Gather", [self.row, self._constant(np.array(place, np.int64))])
        asked = self._node("Greater", [chosen.outputs[0], self._constant(np.array(0.5, np.float32))])
        plain = self._copied(node, list(node.inputs))
        branches = {"then_branch": self._rounding(node, layer), "else_branch": _graph([plain], plain.outputs)}
        attributes = [ir.AttrGraph(name, branch) for name, branch in branches.items()]
        switch = ir.Node(
            "", "If", [asked.outputs[0]], attributes, num_outputs=len(node.outputs), name=self.names.fresh("dfq_If")
        )
        self.graph.insert_before(node, [chosen, asked, switch])
        for old, new in zip(node.outputs, switch.outputs, strict=True):
            new.type, new.shape, name = old.type, old.shape, old.name
            old.name = self.names.fresh(f"{name}_switched")
            new.name = name
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)

    def ended(self, count: int) -> ir.Model:
        """The model, with the input of ``count`` switches."""
        first, row = next(iter(self.graph)), self.row.producer()
        assert row is not None
        self.graph.insert_before(first, row)
        switches, main = row.inputs[0], main_input_value(self.model)
        assert switches is not None
        batch = main.shape[0] if main.shape is not None and len(main.shape) else None
        switches.shape = ir.Shape([batch if isinstance(batch, int) else None, count])
        self.graph.inputs.append(switches)
        return self.model

    def _rounding(self, node: ir.Node, layer: QuantizedLayer) -> ir.Graph:
        """The branch that reads integers."""
        nodes: list[ir.Node] = []
        inputs = list(node.inputs)
        for place, name in layer.reads:
            value = inputs[place]
            if value is not None:
                constant = self.rounded.constants.get(name)
                inputs[place] = self._rounded(value, name, nodes) if constant is None else self._hold(name, constant)
        made = self._copied(node, inputs)
        nodes.append(made)
        outputs = list(made.outputs)
        if self.corrected and layer.weight and is_op(node, WEIGHTED_OPS):
            outputs[0] = self._without_shift(node, made.outputs[0], nodes)
        for place, name in layer.writes:
            outputs[place] = self._rounded(outputs[place], name, nodes)
        return _graph(nodes, outputs)

    def _without_shift(self, node: ir.Node, result: ir.Value, nodes: list[ir.Node]) -> ir.Value:
        """``result`` without the mean error of each channel; the rest is as large as on samples that the mean was not
        taken from (Bessel)."""
        rank, channel = _channel_of(node)
        exact = self._copied(node, list(node.inputs))
        nodes.append(exact)

        def add(operator: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
            nodes.append(self._node(operator, list(inputs), attributes))
            return nodes[-1].outputs[0]

        def number(value: float) -> ir.Value:
            return self._constant(np.array(value, np.float32))

        error = add("Sub", result, exact.outputs[0])
        axes = [axis for axis in range(rank) if axis != channel]
        more, attributes = mean_axes(self.graph, self.names, axes)
        mean = add("ReduceMean", error, *more, **attributes, keepdims=1)
        size = [add("Cast", add("Size", value), to=int(ir.DataType.FLOAT)) for value in (error, mean)]
        count = add("Div", *size)
        fewer = add("Sub", count, number(1))  # of one value there is no mean to take out
        error = add("Sub", error, add("Mul", mean, add("Min", fewer, number(1))))
        error = add("Mul", error, add("Sqrt", add("Div", count, add("Max", fewer, number(1)))))
        return add("Add", exact.outputs[0], error)

    def _rounded(self, value: ir.Value, name: str, nodes: list[ir.Node]) -> ir.Value:
        """``value`` through its integers, of any width."""
        encoding: Encoding = self.rounded.activations[name]
        zero, kind = int(encoding.zero_point), encoding.qtype
        scale = self._constant(np.asarray(encoding.scale, np.float32))
        ends = [self._constant(np.array(end - zero, np.float32)) for end in (kind.qmin, kind.qmax)]
        for operator, inputs in (("Div", [scale]), ("Round", []), ("Clip", ends), ("Mul", [scale])):
            nodes.append(self._node(operator, [value, *inputs]))
            value = nodes[-1].outputs[0]
        return value

    def _hold(self, name: str, array: NDArray[np.float32]) -> ir.Value:
        if name not in self.held:
            self.held[name] = self._constant(array)
        return self.held[name]

    def _constant(self, array: NDArray[Any]) -> ir.Value:
        return add_constant(self.graph, self.names.fresh("dfq_constant"), array)

    def _copied(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Node:
        copy = ir.Node(
            node.domain, node.op_type, inputs, list(node.attributes.values()), num_outputs=len(node.outputs),
            name=self.names.fresh(f"{node.name}_copy"),
        )  # fmt: skip
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            new.name, new.type = self.names.fresh(f"{old.name}_copy"), old.type
        return copy

    def _node(self, operator: str, inputs: Sequence[ir.Value], attributes: Mapping[str, Any] | None = None) -> ir.Node:
        node = ir.node(operator, list(inputs), dict(attributes or {}), name=self.names.fresh(f"dfq_{operator}"))
        node.outputs[0].name = self.names.fresh(f"{node.name}_value")
        return node


def _input(name: str) -> ir.Value:
    return ir.val(name, dtype=ir.DataType.FLOAT)


def _graph(nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> ir.Graph:
    for value in outputs:
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph(inputs=(), outputs=outputs, nodes=nodes, name="dfq_branch")


def _channel_of(node: ir.Node) -> tuple[int, int]:
    """Rank of what a layer writes, and the axis of its channels."""
    weight, shape = constant_of(node.inputs[1]), node.outputs[0].shape
    if is_op(node, ("Conv", "ConvTranspose")) and weight is not None:
        return len(weight.shape), 1
    if shape is None:
        raise ModelError(f"{node.op_type} '{node.name}' writes a tensor of unknown rank")
    return len(shape), len(shape) - 1
