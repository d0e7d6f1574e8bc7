"""Find the logits that class scores are computed from."""

from dataclasses import dataclass

import onnx_ir as ir

from dfq_deploy.graph.operators import is_op

__all__ = ["MOVING_OPS", "Logits", "logits_of", "probability_outputs"]

ACTIVATIONS = ("LogSoftmax", "Sigmoid", "Softmax")
"""Operators that turn logits into class scores."""

PROBABILITIES = ("Sigmoid", "Softmax")
"""Those whose values lie between 0 and 1."""

MOVING_OPS = frozenset(
    {"Cast", "DequantizeLinear", "Dropout", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)
"""Operators that keep the values of a row of class scores."""


@dataclass(frozen=True, eq=False)
class Logits:
    """Logits, one row for each sample.

    Args:
        value: the tensor that holds them: the output itself where no activation follows.
        activation: the operator that turns them into the output: ``Softmax``, ``LogSoftmax``, ``Sigmoid`` or "".
    """

    value: ir.Value
    activation: str = ""


def logits_of(scores: ir.Value) -> Logits:
    """The logits behind an output with class scores, through operators that only move values.

    A Softmax that is written out as ``Exp(x) / ReduceSum(Exp(x))``, and the logarithm of a Softmax, count too.
    """
    value, logarithm = scores, False
    while (node := value.producer()) is not None:
        found = _activation(node)
        if found is not None:
            source, activation = found
            if not _is_row(source) or (logarithm and activation != "Softmax"):
                break
            return Logits(source, "LogSoftmax" if logarithm else activation)
        if node.inputs[0] is None or not is_op(node, MOVING_OPS if logarithm else MOVING_OPS | {"Log"}):
            break
        logarithm = logarithm or is_op(node, "Log")
        value = node.inputs[0]
    return Logits(scores)


def probability_outputs(model: ir.Model) -> frozenset[str]:
    """Names of the outputs that a Sigmoid or a Softmax writes, moved or not: their values lie between 0 and 1."""
    return frozenset(str(value.name) for value in model.graph.outputs if _is_probability(value))


def _is_probability(value: ir.Value) -> bool:
    node = value.producer()
    while node is not None and not is_op(node, PROBABILITIES):
        source = node.inputs[0] if node.inputs else None
        node = source.producer() if source is not None and is_op(node, MOVING_OPS) else None
    return node is not None


def _activation(node: ir.Node) -> tuple[ir.Value, str] | None:
    """What an activation at the end of a classifier reads, and its name; None for other nodes."""
    if is_op(node, ACTIVATIONS) and node.inputs[0] is not None:
        return node.inputs[0], node.op_type
    if not is_op(node, "Div"):
        return None
    powers, total = (None if value is None else value.producer() for value in node.inputs[:2])
    if powers is None or total is None or not is_op(powers, "Exp") or not is_op(total, "ReduceSum"):
        return None
    source = powers.inputs[0]
    return (source, "Softmax") if source is not None and total.inputs[0] is powers.outputs[0] else None


def _is_row(value: ir.Value) -> bool:
    """True where a tensor has one row for each sample, or an unknown shape."""
    return value.shape is None or len([dim for dim in list(value.shape)[1:] if dim != 1]) == 1
