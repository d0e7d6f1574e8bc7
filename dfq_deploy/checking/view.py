"""The quantized graph as the rules read it: integer kernels and how their tensors are quantized."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import google.protobuf.message
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.operators import WEIGHTED_OPS
from dfq_deploy.graph.query import constant_of
from dfq_deploy.graph.reading import ModelSource, no_model, read_mapped, source_name

__all__ = ["QLINEAR", "Kernel", "Quantization", "View", "kind_of", "name", "view_of"]

KINDS = {
    **{ir.DataType.UINT8: "u8", ir.DataType.INT8: "s8", ir.DataType.UINT16: "u16", ir.DataType.INT16: "s16"},
    **{ir.DataType.UINT4: "u4", ir.DataType.INT4: "s4", ir.DataType.INT32: "s32"},
}
"""As :class:`dfq_deploy.encodings.QuantType` writes them."""

QLINEAR = {
    "QLinearConv": ((0, 1, 2), (3, 4, 5)),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
    "QGemm": ((0, 1, 2), (3, 4, 5)),
}
"""Weighted operators on integers -> where activation and weight stand among the inputs, with scale and zero point."""


@dataclass(frozen=True, eq=False)
class Quantization:
    """How one tensor is quantized.

    Args:
        node: the QuantizeLinear, DequantizeLinear or QLinear node that says so.
        kind: ``u8``, ``s8``...; None where it cannot be known.
        scale, zero_point: None where they are computed.
        axis: the channel axis where there are several scales, else None.
        constant: whether the integers are a constant's.
    """

    node: ir.Node
    kind: str | None
    scale: NDArray[Any] | None
    zero_point: NDArray[Any] | None
    axis: int | None
    constant: bool

    def same_scale(self, other: "Quantization") -> bool:
        """True if both have the same scale and zero point."""
        mine, yours = (
            [None if part is None else part.reshape(-1).tolist() for part in (q.scale, q.zero_point)]
            for q in (self, other)
        )
        return mine == yours


@dataclass(frozen=True, eq=False)
class Kernel:
    """A weighted node: what it reads, None for what is not quantized.

    Args:
        operator: ``Conv`` also for QLinearConv.
        weight: None also where the node multiplies two activations.
        has_weight: false where it does.
        bias: None where it is float, or there is none.
    """

    node: ir.Node
    operator: str
    activation: Quantization | None
    weight: Quantization | None
    has_weight: bool
    bias: Quantization | None


class View:
    """One model with its quantization looked up."""

    def __init__(self, model: ir.Model, place: str) -> None:
        self.model = model
        self.place = place
        self.opset = model.opset_imports.get("", 0)

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        """All nodes of the main graph, in order."""
        return tuple(self.model.graph)

    @cached_property
    def quantizations(self) -> tuple[Quantization, ...]:
        """One for each QuantizeLinear and DequantizeLinear, in order."""
        found = (_of_linear(node) for node in self.nodes if _is_linear(node))
        return tuple(entry for entry in found if entry is not None)

    @cached_property
    def kernels(self) -> tuple[Kernel, ...]:
        """The weighted nodes, quantized or not, in order."""
        return tuple(kernel for node in self.nodes for kernel in _kernels(node))

    @cached_property
    def by_node(self) -> dict[ir.Node, Quantization]:
        """The quantizations by their Q or DQ."""
        return {entry.node: entry for entry in self.quantizations}

    @cached_property
    def weighted(self) -> frozenset[ir.Node]:
        """The weighted nodes."""
        return frozenset(kernel.node for kernel in self.kernels)

    @cached_property
    def heads(self) -> frozenset[ir.Node]:
        """The weighted nodes that read integers."""
        return frozenset(kernel.node for kernel in self.kernels if kernel.activation is not None)

    def behind(self, value: ir.Value) -> list[ir.Node]:
        """The DQ nodes that give ``value`` back behind its Q."""
        integers = [use.node.outputs[0] for use in value.uses() if use.node.op_type == "QuantizeLinear"]
        clips = [use.node for entry in integers for use in entry.uses() if use.node.op_type == "Clip"]
        integers += [clip.outputs[0] for clip in clips]
        return [use.node for entry in integers for use in entry.uses() if use.node.op_type == "DequantizeLinear"]

    def source(self, node: ir.Node) -> ir.Node | None:
        """What writes the tensor that a DQ gives back; ``node`` itself where it is none."""
        seen: ir.Node | None = node
        while seen is not None and seen.op_type in ("DequantizeLinear", "QuantizeLinear"):
            value = seen.inputs[0]
            seen = None if value is None else value.producer()
        return seen

    def activations(self) -> Iterator[Quantization]:
        """The quantizations of what is not constant; one for each Q, and for each DQ of integers that are fed."""
        for entry in self.quantizations:
            integers = entry.node.inputs[0]
            fed = integers is not None and integers.producer() is None
            if not entry.constant and (entry.node.op_type == "QuantizeLinear" or fed):
                yield entry
        for kernel in self.kernels:
            if kernel.node.op_type in QLINEAR and kernel.activation is not None:
                yield kernel.activation


def view_of(source: ModelSource) -> View:
    """Read any ONNX file, float or quantized; nothing of it is changed but that constants become initializers.

    Raises:
        ModelError: it is missing or no ONNX model.
    """
    model = _read(source)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    return View(model, source_name(source))


def _read(source: ModelSource) -> ir.Model:
    if isinstance(source, ir.Model):
        return source.clone()
    if isinstance(source, str | PathLike):
        if not Path(source).is_file():
            raise ModelError(f"{source}: no such file; give the path of an .onnx file")
        try:
            model = ir.load(Path(source))
        except (google.protobuf.message.DecodeError, ValueError, OSError, RuntimeError) as problem:
            raise ModelError(f"{source}: not an ONNX model, or cut short ({problem}); export it again") from None
        read_mapped(model, Path(source))
    else:
        if not isinstance(source, onnx.ModelProto):
            raise no_model(source)
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        model = ir.from_proto(copy)
    if not len(model.graph):
        raise ModelError(f"{source_name(source)}: not an ONNX model (it holds no graph); export it again")
    return model


def name(node: ir.Node) -> str:
    """The node's name, or that of its first output."""
    return node.name or next((value.name for value in node.outputs if value.name), None) or "?"


def kind_of(value: ir.Value | None) -> str | None:
    """The integer type of a value."""
    return None if value is None or value.dtype is None else KINDS.get(value.dtype, str(value.dtype).lower())


def _is_linear(node: ir.Node) -> bool:
    return node.op_type in ("QuantizeLinear", "DequantizeLinear")


def _numbers(value: ir.Value | None) -> NDArray[Any] | None:
    constant = constant_of(value)
    return None if constant is None else np.asarray(constant.numpy())


def _quantization(
    node: ir.Node, integers: ir.Value | None, parameters: Sequence[ir.Value | None], axis: int, constant: bool
) -> Quantization:
    scale, zero_value = _numbers(parameters[0]), parameters[1] if len(parameters) > 1 else None
    zero_point = np.zeros(()) if zero_value is None else _numbers(zero_value)
    kind = kind_of(zero_value) or kind_of(integers)
    return Quantization(node, kind, scale, zero_point, axis if scale is not None and scale.size > 1 else None, constant)


def _of_linear(node: ir.Node) -> Quantization | None:
    source = node.inputs[0]
    integers = source if node.op_type == "DequantizeLinear" else node.outputs[0]
    producer = None if source is None else source.producer()
    of_constant = constant_of(source) is not None or (
        # Weights that are kept in float go through both nodes.
        producer is not None and producer.op_type == "QuantizeLinear" and constant_of(producer.inputs[0]) is not None
    )
    return _quantization(node, integers, node.inputs[1:3], node.attributes.get_int("axis", 1), of_constant)


def _dequantized(value: ir.Value | None) -> Quantization | None:
    """How ``value`` is quantized: it is a DQ's output, perhaps transposed."""
    producer = None if value is None else value.producer()
    if producer is None:
        return None
    if producer.op_type == "DequantizeLinear":
        return _of_linear(producer)
    moved = _dequantized(producer.inputs[0]) if producer.op_type in ("Transpose", "Identity") else None
    if moved is None or moved.axis is None or producer.op_type == "Identity":
        return moved
    perm = list(producer.attributes.get_ints("perm", ()) or ())
    rank = len(perm) or (0 if producer.outputs[0].shape is None else len(producer.outputs[0].shape))
    perm = perm or list(range(rank))[::-1]
    axis = perm.index(moved.axis % rank) if rank else moved.axis
    return Quantization(moved.node, moved.kind, moved.scale, moved.zero_point, axis, moved.constant)


def _kernels(node: ir.Node) -> Iterator[Kernel]:
    if node.op_type in WEIGHTED_OPS and len(node.inputs) > 1:
        weight = _dequantized(node.inputs[1])
        constant = constant_of(node.inputs[1]) is not None or (weight is not None and weight.constant)
        bias = _dequantized(node.inputs[2]) if len(node.inputs) > 2 else None
        yield Kernel(node, node.op_type, _dequantized(node.inputs[0]), weight if constant else None, constant, bias)
    elif node.op_type in QLINEAR:
        parts = []
        for first, scale, zero in QLINEAR[node.op_type]:
            integers = node.inputs[first]
            constant = constant_of(integers) is not None
            parts.append(_quantization(node, integers, (node.inputs[scale], node.inputs[zero]), 0, constant))
        operator = {"QLinearConv": "Conv", "QLinearMatMul": "MatMul", "QGemm": "Gemm"}[node.op_type]
        constant = parts[1].constant
        yield Kernel(node, operator, parts[0], parts[1] if constant else None, constant, None)
