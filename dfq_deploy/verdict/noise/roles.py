"""Find what writes an activation, as far as that decides why it is noisy."""

import onnx_ir as ir

from dfq_deploy.graph.query import constant_of
from dfq_deploy.graph.traversal import weighted_after
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.verdict.noise.causes import Role

__all__ = ["role_of"]

MOVING = find_target("cpu").passing_ops

DEPTH = 8
"""Operators that are followed back: a gate has two convolutions and two activations behind its pooling."""

KEEPS_SIZE = frozenset(
    {"Conv", "Gemm", "MatMul", "Relu", "Clip", "HardSigmoid", "Sigmoid", "HardSwish", "Flatten", "Reshape", "Squeeze"}
    | {"Unsqueeze", "Identity", "BatchNormalization", "LeakyRelu", "Add", "Mul", "Div", "Transpose", "Dropout"}
)
"""What makes one value for each sample and channel of one value for each sample and channel."""

GATES = frozenset({"HardSigmoid", "Sigmoid", "Clip", "Add", "Div", "Mul"})
"""What a hard swish or a swish is made of, beside the product with its own input."""


def role_of(value: ir.Value) -> Role:
    """What writes ``value``: a swish, global pooling, a Softmax, or what joins parts; empty for anything else."""
    node = _moved(value).producer()
    if node is None:
        return ""
    if node.op_type == "Softmax":
        return "softmax"
    if node.op_type == "HardSwish" or _is_gated(node):
        return "hard-swish"
    if node.op_type == "Concat" and not weighted_after(node):
        return "mixed"
    return "pooled" if _is_pooled(node) else ""


def _moved(value: ir.Value) -> ir.Value:
    """Where ``value`` comes from, behind operators that only move it."""
    node = value.producer()
    while node is not None and node.op_type in MOVING and node.op_type != "Concat" and node.inputs[0] is not None:
        value, node = node.inputs[0], node.inputs[0].producer()
    return value


def _computed(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None and constant_of(value) is None]


def _is_gated(node: ir.Node) -> bool:
    """True for the product of a value with its own gate."""
    factors = _computed(node) if node.op_type == "Mul" else []
    if len(factors) != 2:
        return False
    return _leads_to(factors[0], factors[1]) or _leads_to(factors[1], factors[0])


def _leads_to(value: ir.Value, gate: ir.Value) -> bool:
    """True if ``gate`` is computed from ``value`` alone, by what gates are made of."""
    for _ in range(DEPTH):
        node = gate.producer()
        sources = [] if node is None or node.op_type not in GATES else _computed(node)
        if len(sources) != 1:
            return False
        if sources[0] is value:
            return True
        gate = sources[0]
    return False


def _is_pooled(node: ir.Node | None) -> bool:
    for _ in range(DEPTH):
        if node is None:
            return False
        if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
            return True
        if node.op_type == "ReduceMean":
            shape = node.outputs[0].shape
            return shape is not None and (len(shape) == 2 or list(shape)[2:] == [1] * (len(shape) - 2))
        sources = _computed(node)
        if node.op_type not in KEEPS_SIZE or len(sources) != 1:
            return False
        node = sources[0].producer()
    return False
