"""Read the bias of a layer, of the float model or of a quantized file."""

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.qdq_reader import constant_values

__all__ = ["LayerBias", "bias_of"]


@dataclass(frozen=True, eq=False)
class LayerBias:
    """The bias of a layer.

    Args:
        name: of the constant, as the file has it.
        values: float64 (C,), dequantized.
        adder: the Add behind a MatMul that adds it; None where the layer reads it itself.
    """

    name: str
    values: NDArray[Any]
    adder: ir.Node | None = None


def bias_of(node: ir.Node) -> LayerBias | None:
    """The constant bias that a Conv, ConvTranspose or Gemm reads, or that an Add behind a MatMul adds."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return _bias(node.inputs[2], None)
    uses = [use.node for use in node.outputs[0].uses()]
    if not is_op(node, "MatMul") or len(uses) != 1 or not is_op(uses[0], "Add"):
        return None
    others = [value for value in uses[0].inputs if value is not node.outputs[0]]
    return _bias(others[0], uses[0]) if len(others) == 1 else None


def _bias(value: ir.Value | None, adder: ir.Node | None) -> LayerBias | None:
    values = constant_values(value)
    if value is None or values is None or values.size != max(values.shape, default=1):
        return None
    producer = value.producer()
    stored = value if producer is None else producer.inputs[0]
    name = name_of(stored) if constant_of(stored) is not None else name_of(value)
    return LayerBias(name, values.reshape(-1), adder)
