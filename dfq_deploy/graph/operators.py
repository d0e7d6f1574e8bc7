"""Match operators with their domain; shared tables of operators and element types."""

from collections.abc import Collection
from typing import Protocol

import onnx_ir as ir

__all__ = [
    "DEQUANTIZE_OPS",
    "FLOATS",
    "NUMBERS",
    "QDQ_OPS",
    "QUANTIZE_OPS",
    "RANDOM_OPS",
    "STANDARD_DOMAINS",
    "WEIGHTED_OPS",
    "WEIGHT_ONLY_OPS",
    "Operation",
    "is_integer_op",
    "is_op",
    "is_quantized_op",
    "is_standard",
    "operator_of",
]

STANDARD_DOMAINS = ("", "ai.onnx")
"""The two spellings of ONNX's own domain."""

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

WEIGHTED_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

QUANTIZE_OPS = frozenset({"QuantizeLinear", f"{MICROSOFT}::QuantizeLinear"})
"""The operators of ONNX and of ONNX Runtime, which supports 4 and 16 bits in old opsets too."""

DEQUANTIZE_OPS = frozenset({"DequantizeLinear", f"{MICROSOFT}::DequantizeLinear"})

QDQ_OPS = QUANTIZE_OPS | DEQUANTIZE_OPS

INTEGER_OPS = frozenset({"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
"""Operators of ONNX that compute on integers, or quantize dynamically."""

MICROSOFT_INTEGER_OPS = ("QLinear", "QGemm", "QAttention", "QOrdered", "DynamicQuantize", "MatMulInteger")
"""Prefixes of ONNX Runtime's operators that compute on integers, or quantize dynamically."""

WEIGHT_ONLY_OPS = frozenset(
    f"{MICROSOFT}::{name}" for name in ("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized", "QMoE")
)
"""Operators of ONNX Runtime that compute in float with weights of few bits."""

RANDOM_OPS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
"""Operators with random output."""

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16})


NUMBERS = FLOATS | {
    *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64, ir.DataType.BOOL, None),
    *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
}
"""Numeric element types that NumPy supports."""


class Operation(Protocol):
    """An object with an operator: a node of a graph or of a protobuf message, or a step of a twin."""

    @property
    def domain(self) -> str:
        """Empty, or ``ai.onnx``, for ONNX's own operators."""

    @property
    def op_type(self) -> str:
        """The operator's name in its domain."""


def operator_of(node: Operation) -> str:
    """Return ``Conv`` for an operator of ONNX's own domain, ``my.domain::Conv`` for any other."""
    return node.op_type if is_standard(node) else f"{node.domain}::{node.op_type}"


def is_op(node: Operation, operators: str | Collection[str]) -> bool:
    """Return True if the operator of ``node`` is one of ``operators``, in the notation of :func:`operator_of`.

    ``is_op(node, "Conv")`` is False for an operator named Conv in another domain, whose semantics are unknown.
    """
    name = operator_of(node)
    return name == operators if isinstance(operators, str) else name in operators


def is_standard(node: Operation) -> bool:
    """Return True for an operator of ONNX's own domain."""
    return node.domain in STANDARD_DOMAINS


def is_integer_op(node: Operation) -> bool:
    """Return True for an operator that computes on integers itself, without Q and DQ around it."""
    if node.domain == MICROSOFT:
        return node.op_type.startswith(MICROSOFT_INTEGER_OPS)
    return is_op(node, INTEGER_OPS)


def is_quantized_op(node: Operation) -> bool:
    """Return True for operators of quantized models: Q or DQ, integer arithmetic, or weights of few bits."""
    return is_op(node, QDQ_OPS) or is_op(node, WEIGHT_ONLY_OPS) or is_integer_op(node)
