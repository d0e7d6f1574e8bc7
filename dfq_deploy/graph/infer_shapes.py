"""Infer the shapes of all values."""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dfq_deploy.graph.operators import is_op

__all__ = ["infer_shapes"]

SUM_OPS = frozenset({
    "com.microsoft::SkipLayerNormalization",
    "com.microsoft::SkipSimplifiedLayerNormalization",
})  # fmt: skip
"""Operators whose fourth output is the sum that the first one normalizes."""

UNARY_OPS = frozenset({
    *(f"com.microsoft::{name}" for name in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "RotaryEmbedding")),
    *SUM_OPS,
    "GroupNormalization",
})  # fmt: skip
"""Operators that ONNX's inference does not know: the output has the shape of the first input."""


SEQUENCE_OPS = frozenset({"SequenceConstruct", "SequenceErase", "SequenceInsert", "SequenceMap", "SplitToSequence"})
"""Operators that write sequences of tensors, which onnx-ir takes for tensors after its inference."""


def infer_shapes(model: ir.Model, *, data_prop: bool = True) -> None:
    """Infer, in place, the shape of every value that ONNX's inference reaches, and of :data:`UNARY_OPS`.

    Args:
        data_prop: compute shapes that are data too.
    """
    with _stood_in(model):
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=data_prop)(model)
    for node in model.graph.all_nodes():
        for value in node.outputs if is_op(node, SEQUENCE_OPS) else ():
            if isinstance(value.type, ir.TensorType):
                value.type, value.shape = ir.SequenceType(value.type), None


@contextmanager
def _stood_in(model: ir.Model) -> Iterator[None]:
    """Let a Relu of the first input stand in for each of :data:`UNARY_OPS`, and that input for the sums."""
    unary = [node for node in model.graph.all_nodes() if is_op(node, UNARY_OPS)]
    known = [(node, node.op_type, node.domain, list(node.inputs)) for node in unary]
    sums: dict[ir.Value | None, ir.Value | None] = {}
    for node in unary:
        if is_op(node, SUM_OPS) and len(node.outputs) > 3:
            sums[node.outputs[3]] = sums.get(node.inputs[0], node.inputs[0])
    for node in unary:
        node.op_type, node.domain = "Relu", ""
        node.resize_inputs(1)
    readers = [(total, source, tuple(total.uses())) for total, source in sums.items() if total is not None]
    for _, source, uses in readers:
        for use in uses:
            use.node.replace_input_with(use.idx, source)
    try:
        yield
    finally:
        for total, source, uses in readers:
            for use in uses:
                use.node.replace_input_with(use.idx, total)
            if source is not None:
                total.type, total.shape = total.type or source.type, total.shape or source.shape
        for node, op_type, domain, inputs in known:
            node.op_type, node.domain = op_type, domain
            node.resize_inputs(len(inputs))
            for index, value in enumerate(inputs[1:], 1):
                node.replace_input_with(index, value)
