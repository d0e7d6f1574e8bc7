"""Write a graph, float or with Q and DQ, as tensors and operations of a .tflite file."""

from collections.abc import Sequence

import onnx_ir as ir

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.errors import TargetError
from dfq_deploy.graph.inputs import input_values, is_channels_last
from dfq_deploy.graph.operators import DEQUANTIZE_OPS, QUANTIZE_OPS, is_op, is_standard, operator_of
from dfq_deploy.graph.query import constant_of, name_of

from . import operators  # noqa: F401 - the operators register themselves
from .orders import CHANNELS_LAST, Order, natural, permuted
from .registry import OPERATORS, Unsupported
from .source import prepared
from .step import Step, static_shape
from .tensors import Graph, Port
from .values import Values
from .writer import Stored, Writer

__all__ = ["converted"]

UNSIGNED = QuantType(8, signed=False, symmetric=False)

LISTED = 5
"""Number of nodes that a message lists."""


def converted(model: ir.Model, *, batch: int = 1, channels_last: bool = True, integer_only: bool = False) -> Graph:
    """Return the content of the .tflite file for ``model``.

    An operator runs in integers if its inputs come from DequantizeLinear, its output goes to QuantizeLinear (possibly
    behind a Relu or Clip) and LiteRT has an integer kernel; else in floats, between DEQUANTIZE and QUANTIZE.

    Axes: convolutions and poolings have the channels last. Other operators take their inputs as these lie, a Transpose
    only relabels axes, and a TRANSPOSE is written where an operator needs another order, once for all its readers.

    Args:
        model: float, or with Q and DQ.
        batch: of inputs with an open batch.
        channels_last: images are fed as (N, H, W, C), and outputs that lie in that order are returned in it; else
            inputs and outputs have the order of the graph.
        integer_only: write integer kernels where floats would be faster on a CPU, too.

    Raises:
        ModelError: a dimension beyond the batch is open.
        TargetError: LiteRT lacks an operator, or a form of one; the message names the nodes.
    """
    source = prepared(model, batch)
    values = Values(Writer(), integer_only=integer_only)
    _add_inputs(source, values, channels_last)
    _write_nodes(source.graph, values)
    for value in source.graph.outputs:
        values.writer.graph.outputs.append(_output(value, values, channels_last))
    values.writer.graph.drop_unused()
    return values.writer.graph


def _add_inputs(model: ir.Model, values: Values, channels_last: bool) -> None:
    pictures_last = channels_last and not is_channels_last(model)
    for value in input_values(model):
        shape = static_shape(value)
        order = CHANNELS_LAST if pictures_last and len(shape) == 4 else natural(len(shape))
        dtype = (value.dtype or ir.DataType.FLOAT).numpy()
        tensor = values.writer.tensor(name_of(value), permuted(shape, order), dtype)
        values.writer.graph.inputs.append(Port(name_of(value), tensor, order))
        values.put(value, Stored(tensor, order))


def _write_nodes(graph: ir.Graph, values: Values) -> None:
    problems: list[tuple[ir.Node, str]] = []
    skipped: set[ir.Node] = set()
    failed: set[ir.Value] = set()
    for node in graph:
        if node in skipped:
            continue
        if not failed.isdisjoint(node.inputs):
            failed.update(node.outputs)
            if is_standard(node) and (node.op_type in OPERATORS or is_op(node, QUANTIZE_OPS | DEQUANTIZE_OPS)):
                continue
        try:
            step = _write(node, values)
        except Unsupported as problem:
            problems.append((node, str(problem)))
            failed.update(node.outputs)
            continue
        if step is not None and step.skipped is not None:
            skipped.add(step.skipped)
    if problems:
        raise TargetError(_message(problems))


def _write(node: ir.Node, values: Values) -> Step | None:
    if is_op(node, QUANTIZE_OPS):
        values.quantize(node)
        return None
    if is_op(node, DEQUANTIZE_OPS):
        values.dequantize(node)
        return None
    if not is_standard(node) or node.op_type not in OPERATORS:
        raise Unsupported("")
    step = Step(node, values)
    step.operator.write(step)
    return step


def _message(problems: Sequence[tuple[ir.Node, str]]) -> str:
    shown = "; ".join(
        f"{operator_of(node)} '{node.name or name_of(node.outputs[0])}'{f' ({reason})' if reason else ''}"
        for node, reason in problems[:LISTED]
    )
    more = f", and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return (
        f"litert: no LiteRT operation is written for {len(problems)} node(s): {shown}{more}; cut the model before "
        "them, export it with other operators, or use --target xnnpack, which runs in ONNX Runtime"
    )


def _output(value: ir.Value, values: Values, channels_last: bool) -> Port:
    """Return a graph output; a tensor that an input or another output has too is copied."""
    is_integer = value.dtype not in (ir.DataType.FLOAT, None) and bool(values.integers(value))
    versions = values.integers(value) if is_integer else values.plain(value)
    first = versions[0]
    order: Order = natural(len(first.order))
    if channels_last and first.order == CHANNELS_LAST:
        order = CHANNELS_LAST
    tensor = values.writer.in_order(versions, order).tensor
    if is_integer and value.dtype == ir.DataType.UINT8 and tensor.encoding is not None:
        shifted = Encoding(tensor.encoding.scale, tensor.encoding.zero_point + 128, UNSIGNED)
        tensor = values.writer.quantize(tensor, shifted, name_of(value))
    taken = {port.tensor for port in (*values.writer.graph.inputs, *values.writer.graph.outputs)}
    if tensor in taken or tensor.data is not None or constant_of(value) is not None:
        copy = values.writer.like(name_of(value), tensor, tensor.shape)
        shape = values.writer.numbers("shape", list(tensor.shape))
        values.writer.emit("RESHAPE", [tensor, shape], copy, "ReshapeOptions", {"newShape": list(tensor.shape)})
        tensor = copy
    return Port(name_of(value), tensor, order)
