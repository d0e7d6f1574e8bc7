"""Infer the shapes of all values."""

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from dfq_deploy.graph.operators import is_op

__all__ = ["infer_shapes"]

UNARY_OPS = frozenset({
    *(f"com.microsoft::{name}" for name in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")),
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
    unary = [node for node in model.graph.all_nodes() if is_op(node, UNARY_OPS)]
    known = [(node, node.op_type, node.domain, list(node.inputs)) for node in unary]
    for node in unary:
        node.op_type, node.domain = "Relu", ""
        node.resize_inputs(1)
    try:
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=data_prop)(model)
    finally:
        for node, op_type, domain, inputs in known:
            node.op_type, node.domain = op_type, domain
            node.resize_inputs(len(inputs))
            for index, value in enumerate(inputs[1:], 1):
                node.replace_input_with(index, value)
    for node in model.graph.all_nodes():
        for value in node.outputs if is_op(node, SEQUENCE_OPS) else ():
            if isinstance(value.type, ir.TensorType):
                value.type, value.shape = ir.SequenceType(value.type), None
