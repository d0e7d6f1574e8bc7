"""Find spectral front ends (STFT, mel), which stay in float.

A spectrum spans 60 dB and more, and its quiet parts matter as much as the loud ones: the network takes its logarithm,
or was trained on the full span. Eight bits with one scale cover 48 dB.
"""

from collections.abc import Iterator

import onnx_ir as ir

from dfq_deploy.graph.inputs import main_input_value
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of
from dfq_deploy.graph.traversal import after, before

__all__ = ["spectral_nodes"]

ACTIVATIONS = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Erf", "Sigmoid", "Tanh", "Softmax", "Softplus"}
    | {"HardSigmoid", "HardSwish", "Mish", "MaxPool", "LSTM", "GRU", "RNN", "com.microsoft::Gelu"}
    | {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"}
)
"""Operators that do not occur in a front end: the first of them belongs to the network itself."""

SQUARES = frozenset({"Abs", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "STFT", "DFT"})

SHAPES = ("Shape", "Size")

OPS_BEFORE_DIVISION = frozenset(
    {"Add", "Sub", "Max", "Clip", "Cast", "Expand", "Identity", "Reshape", "Unsqueeze", "Squeeze"}
)
"""Operators that may stand between a root and the division by it."""

REASON = "it computes or reads a spectrum, of which one scale would keep only the loudest parts"


def spectral_nodes(model: ir.Model) -> dict[ir.Node, str]:
    """Return the weighted nodes of a spectral front end, with the reason why they stay float.

    Rules: (1) only if the main input is not an image (one sample has fewer than three axes); (2) a logarithm or a root
    of squares of the input, with no activation before it, ends a front end, unless the root is a divisor (a norm); (3)
    every weighted node before that point belongs to the front end; (4) after a root that no logarithm follows, the
    first weighted nodes belong to it too, since they read the spectrum itself.
    """
    graph = model.graph
    main = main_input_value(model)
    if main.shape is None or len(main.shape) > 3:
        return {}
    reasons: dict[ir.Node, str] = {}
    for node in graph:
        if not is_op(node, ("Log", "Sqrt")) or (is_op(node, "Sqrt") and _is_norm(node)):
            continue
        # A shape holds no values: T5 takes the logarithm of the distance of tokens, which it counts from shapes.
        steps = [step for step in before(node, lambda step: not is_op(step, SHAPES)) if not is_op(step, SHAPES)]
        weighted = [step for step in steps if is_op(step, WEIGHTED_OPS)]
        spectrum = any(_squares(step) for step in steps) and any(main in step.inputs for step in steps)
        if not spectrum or not (weighted or any(is_op(step, ("STFT", "DFT")) for step in steps)):
            continue
        if not any(_is_activation(step) for step in steps):
            readers = _first_readers(node)
            has_logarithm = is_op(node, "Log") or any(is_op(step, "Log") for step in readers)
            reasons |= dict.fromkeys([*weighted, *([] if has_logarithm else readers)], REASON)
    return reasons


def _first_readers(node: ir.Node) -> list[ir.Node]:
    """Return the first weighted nodes and logarithms on each path after ``node``, up to an activation."""
    searched_ops = WEIGHTED_OPS | {"Log"}
    steps = after(node, lambda step: not is_op(step, searched_ops | {"Shape"}) and not _is_activation(step))
    return [step for step in steps if is_op(step, searched_ops)]


def _squares(node: ir.Node) -> bool:
    if is_op(node, "Mul"):
        return node.inputs[0] is node.inputs[1]
    if is_op(node, "Pow"):
        exponent = constant_of(node.inputs[1])
        return exponent is not None and bool((exponent.numpy() == 2).all())
    return is_op(node, SQUARES)


def _is_activation(node: ir.Node) -> bool:
    if not is_op(node, "Clip"):
        return is_op(node, ACTIVATIONS)
    low = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    # A lower bound above zero keeps a logarithm finite; one of zero or less is a Relu6 or a Hardtanh.
    return low is None or float(low.numpy()) <= 0


def _is_norm(node: ir.Node) -> bool:
    """Return True if the output of a root is only used as a divisor."""
    return all(divides for divides in _is_divisor_at_ends(node.outputs[0]))


def _is_divisor_at_ends(value: ir.Value) -> Iterator[bool]:
    for reader, index in value.uses():
        if is_op(reader, OPS_BEFORE_DIVISION):
            yield from _is_divisor_at_ends(reader.outputs[0])
        else:
            yield is_op(reader, "Reciprocal") or (is_op(reader, "Div") and index == 1)
    if value.is_graph_output():
        yield False
