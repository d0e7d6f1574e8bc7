"""Find spectral front ends (STFT, mel), which stay in float.

A spectrum reaches over 60 dB and more, and what is quiet in it matters as much as what is loud: a logarithm after it
says so, or the training did. Eight bits at one scale hold 48 dB.
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
"""What a front end does not hold: behind the first of them the network proper has begun."""

SQUARES = frozenset({"Abs", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "STFT", "DFT"})

BESIDE = frozenset({"Add", "Sub", "Max", "Clip", "Cast", "Expand", "Identity", "Reshape", "Unsqueeze", "Squeeze"})
"""What may stand between a root and the division by it."""

REASON = "it makes a spectrum, or reads one, of which one scale would keep only the loudest parts"


def spectral_nodes(model: ir.Model) -> dict[ir.Node, str]:
    """The weighted nodes of a spectral front end, and why they stay float.

    Rules: (1) only where the main input is no picture (one sample has fewer than three axes); (2) a logarithm or a
    root of squares of the input, with no activation before it, ends a front end, but for a root that is divided by (a
    norm); (3) every weighted node before it belongs to it; (4) behind a root that no logarithm follows, so do the first
    weighted nodes, which read the spectrum as it is.
    """
    graph = model.graph
    main = main_input_value(model)
    if main.shape is None or len(main.shape) > 3:
        return {}
    found: dict[ir.Node, str] = {}
    for node in graph:
        if not is_op(node, ("Log", "Sqrt")) or (is_op(node, "Sqrt") and _is_norm(node)):
            continue
        steps = list(before(node))
        weighted = [step for step in steps if is_op(step, WEIGHTED_OPS)]
        spectrum = any(_squares(step) for step in steps) and any(main in step.inputs for step in steps)
        if not spectrum or not (weighted or any(is_op(step, ("STFT", "DFT")) for step in steps)):
            continue
        if not any(_is_activation(step) for step in steps):
            readers = _first_readers(node)
            quiet = is_op(node, "Log") or any(is_op(step, "Log") for step in readers)
            found |= dict.fromkeys([*weighted, *([] if quiet else readers)], REASON)
    return found


def _first_readers(node: ir.Node) -> list[ir.Node]:
    """The weighted nodes and logarithms that come first on a way from ``node``; none behind an activation."""
    wanted = WEIGHTED_OPS | {"Log"}
    steps = after(node, lambda step: not is_op(step, wanted | {"Shape"}) and not _is_activation(step))
    return [step for step in steps if is_op(step, wanted)]


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
    # A floor above zero keeps a logarithm finite; one of zero or less is a Relu6 or a Hardtanh.
    return low is None or float(low.numpy()) <= 0


def _is_norm(node: ir.Node) -> bool:
    """True if all that is done with a root is a division by it."""
    return all(divides for divides in _ends(node.outputs[0]))


def _ends(value: ir.Value) -> Iterator[bool]:
    for reader, index in value.uses():
        if is_op(reader, BESIDE):
            yield from _ends(reader.outputs[0])
        else:
            yield is_op(reader, "Reciprocal") or (is_op(reader, "Div") and index == 1)
    if value.is_graph_output():
        yield False
