"""Measure the mean shift of each channel in ONNX Runtime, faster than in the twin.

The quantized network is a float graph: weights are rounded, activations pass a QuantizeLinear and a DequantizeLinear
that ONNX Runtime is told not to fuse. Each layer subtracts its own shift from what it writes, so that the layers behind
it read what the corrected network has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.editing import Names, add_constant, mean_axes
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.passes.own_biases import CHANNEL_AXIS
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.runtime.session import RUNTIME_ERRORS, Session, runtime_message, session_options

__all__ = ["InRuntime", "RuntimeShifts", "is_simulated"]

Feeds = Mapping[str, NDArray[np.generic]]
Arrays = dict[str, NDArray[np.float32]]

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own QuantizeLinear, which has 16 bits at every opset."""

WIDEST = 16


def is_simulated(encodings: Mapping[str, Encoding]) -> bool:
    """True where QuantizeLinear and DequantizeLinear can compute what the encodings do to activations."""
    return all(encoding.qtype.bits <= WIDEST and not encoding.qtype.floating for encoding in encodings.values())


class RuntimeShifts:
    """The shifts of the layers of one model, part by part of the samples.

    Args:
        model: in float; it takes batches as large as the parts, whatever it declares.
        layers: names of the outputs of its Conv, ConvTranspose and Gemm nodes that are corrected.
        encodings: of activations, one scale each, and of weights, by tensor name.
    """

    def __init__(self, model: ir.Model, layers: Sequence[str], encodings: Mapping[str, Encoding]) -> None:
        self.layers = tuple(layers)
        self.float, self.quantized = _opened(_moments(model, layers)), _opened(_student(model, layers, encodings))
        self.rows = 0
        self.mean: Arrays = {}
        self.square: Arrays = {}
        self.shift: Arrays = {}

    def add(self, feeds: Feeds, rows: int) -> None:
        """Take the mean over one more part of ``rows`` samples; each part is corrected by the mean up to itself.

        Raises:
            RuntimeError: ONNX Runtime fails.
        """
        self.rows += rows
        share = np.float32(rows / self.rows)
        found = _ran(self.float, feeds)
        means, squares = (dict(zip(self.layers, found[start::2], strict=True)) for start in (0, 1))
        zeros = {name: np.zeros_like(mean) for name, mean in means.items()}
        before = self.shift or zeros
        self.mean = _mixed(self.mean or zeros, means, share)
        self.square = _mixed(self.square or zeros, squares, share)
        known = {_mean_of(index): means[name] for index, name in enumerate(self.layers)}
        known |= {_shift_of(index): before[name] for index, name in enumerate(self.layers)}
        shifts = _ran(self.quantized, {**feeds, **known, "dfq_share": np.asarray(share)})
        self.shift = dict(zip(self.layers, shifts, strict=True))

    def largest(self) -> dict[str, float]:
        """The largest shift of each layer in standard deviations of its channels."""
        deviation = {name: np.sqrt(np.maximum(self.square[name] - self.mean[name] ** 2, 1e-24)) for name in self.layers}
        return {name: float((np.abs(self.shift[name]) / deviation[name]).max()) for name in self.layers}


class InRuntime:
    """A float model in ONNX Runtime, run on tensors as the twin is.

    Args:
        model: the first dimension of its inputs is open, whatever it declares.
    """

    def __init__(self, model: ir.Model) -> None:
        self.output_names = tuple(name_of(value) for value in model.graph.outputs)
        self.session = _opened(_Editor(model.clone()).model)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name.

        Raises:
            RuntimeError: ONNX Runtime fails.
        """
        found = _ran(self.session, {name: tensor.numpy() for name, tensor in feeds.items()})
        return {name: torch.from_numpy(array) for name, array in zip(self.output_names, found, strict=True)}


def _ran(session: Session, feeds: Feeds) -> list[NDArray[Any]]:
    options = ort.RunOptions()
    options.log_severity_level = 4  # where it fails, the twin takes over
    try:
        found: list[NDArray[Any]] = session.run(None, dict(feeds), options)
    except RUNTIME_ERRORS as problem:
        raise RuntimeError(runtime_message(problem)) from problem
    return found


def _mixed(before: Arrays, now: Arrays, share: np.float32) -> Arrays:
    return {name: before[name] + share * (now[name] - before[name]) for name in now}


def _opened(model: ir.Model) -> Session:
    options = session_options(quiet_threads=True)
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.enable_cpu_mem_arena = False  # the arenas of both sessions took 0.4 GB more on EfficientNet-Lite0
    return Session(model, options, ["CPUExecutionProvider"])


def _mean_of(index: int) -> str:
    return f"dfq_mean_{index}"


def _shift_of(index: int) -> str:
    return f"dfq_shift_{index}"


def _moments(model: ir.Model, layers: Sequence[str]) -> ir.Model:
    """The float network whose outputs are mean and mean square of each channel of each layer."""
    editor, outputs = _Editor(model.clone()), list[ir.Value]()
    for name in layers:
        value = editor.values[name]
        outputs += [editor.mean(value, value), editor.mean(editor.add("Mul", [value, value]), value)]
    return editor.ended(outputs)


def _student(model: ir.Model, layers: Sequence[str], encodings: Mapping[str, Encoding]) -> ir.Model:
    """The quantized network, which takes the float means and the shifts so far, and returns the new shifts."""
    editor = _Editor(model.clone())
    for name, constant in editor.model.graph.initializers.items():
        tensor = constant_of(constant)
        if name in encodings and tensor is not None:
            constant.const_value = ir.tensor(np.asarray(encodings[name].fake_quantize(tensor.numpy())), name=name)
    share, shifts = editor.input("dfq_share", ()), dict[str, ir.Value]()
    places = {name: place for place, name in enumerate(layers)}
    for name, value in editor.values.items():
        readers, last = tuple(value.uses()), value
        if name in places:
            mean, before = (editor.input(of(places[name]), (None,)) for of in (_mean_of, _shift_of))
            moved = editor.add("Sub", [editor.add("Sub", [mean, editor.mean(value, value)]), before])
            shifts[name] = editor.add("Add", [before, editor.add("Mul", [moved, share])])
            last = editor.add("Add", [value, editor.along_channels(shifts[name], value)])
        if name in encodings:
            last = editor.rounded(last, encodings[name])
        for use in readers if last is not value else ():
            use.node.replace_input_with(use.idx, last)
    return editor.ended([shifts[name] for name in layers])


class _Editor:
    """Adds nodes to a graph, which is put in order at the end."""

    def __init__(self, model: ir.Model) -> None:
        self.model, self.graph, self.names = model, model.graph, Names(model.graph)
        computed = [value for node in model.graph for value in node.outputs]
        fed = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
        self.values = {name_of(value): value for value in (*fed, *computed) if value.name}
        _forget_sizes(fed, computed)
        model.graph.opset_imports.setdefault(MICROSOFT, 1)

    def input(self, name: str, shape: tuple[int | None, ...]) -> ir.Value:
        """A new float input."""
        value = ir.val(name, dtype=ir.DataType.FLOAT, shape=ir.Shape(shape))
        self.graph.inputs.append(value)
        return value

    def add(
        self,
        operator: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, int | Sequence[int]] | None = None,
        domain: str = "",
    ) -> ir.Value:
        """What a new node writes."""
        name = self.names.fresh(f"dfq_{operator}")
        node = ir.node(operator, list(inputs), dict(attributes or {}), domain=domain, name=name)
        self.graph.append(node)
        node.outputs[0].name = self.names.fresh(f"{name}_value")
        return node.outputs[0]

    def constant(self, array: NDArray[np.generic]) -> ir.Value:
        return add_constant(self.graph, self.names.fresh("dfq_constant"), array)

    def mean(self, values: ir.Value, layer: ir.Value) -> ir.Value:
        """Of each channel of ``values``, whose shape is that of what the ``layer`` writes."""
        rank, channel = _channel_of(layer)
        axes = [axis for axis in range(rank) if axis != channel]
        more, attributes = mean_axes(self.graph, self.names, axes)
        return self.add("ReduceMean", [values, *more], {**attributes, "keepdims": 0})

    def along_channels(self, vector: ir.Value, layer: ir.Value) -> ir.Value:
        """A vector of channels in the shape in which it is added to what the ``layer`` writes."""
        rank, channel = _channel_of(layer)
        shape = [-1 if axis == channel else 1 for axis in range(rank)]
        return self.add("Reshape", [vector, self.constant(np.array(shape, np.int64))])

    def rounded(self, value: ir.Value, encoding: Encoding) -> ir.Value:
        """``value`` through its integers and back."""
        kind, zero = encoding.qtype, int(encoding.zero_point)
        element = np.dtype(f"{'int' if kind.signed else 'uint'}{8 if kind.bits <= 8 else WIDEST}")
        limits = np.iinfo(element)
        if (kind.qmin, kind.qmax) != (limits.min, limits.max):
            bounds = [np.float32((bound - zero) * float(encoding.scale)) for bound in (kind.qmin, kind.qmax)]
            value = self.add("Clip", [value, *(self.constant(np.asarray(bound)) for bound in bounds)])
        parameters = [self.constant(np.asarray(encoding.scale)), self.constant(np.asarray(zero, element))]
        integers = self.add("QuantizeLinear", [value, *parameters], domain=MICROSOFT)
        return self.add("DequantizeLinear", [integers, *parameters], domain=MICROSOFT)

    def ended(self, outputs: Sequence[ir.Value]) -> ir.Model:
        """The model with these outputs alone."""
        self.graph.outputs.clear()
        self.graph.outputs.extend(outputs)
        self.graph.sort()
        RemoveUnusedNodesPass()(self.model)
        return self.model


def _forget_sizes(fed: Sequence[ir.Value], computed: Sequence[ir.Value]) -> None:
    """Declare no first dimension of inputs, and no shape of what is computed: a graph of one sample may take more."""
    for value in fed:
        if value.shape is not None and len(value.shape):
            value.shape = ir.Shape([None, *list(value.shape)[1:]])
    for value in computed:
        value.shape = None


def _channel_of(layer: ir.Value) -> tuple[int, int]:
    """Rank of what a layer writes, and the axis of its channels."""
    node = layer.producer()
    assert node is not None
    weight = constant_of(node.inputs[1])
    assert weight is not None
    rank = 2 if is_op(node, "Gemm") else len(weight.shape)
    return rank, CHANNEL_AXIS[node.op_type] % rank
