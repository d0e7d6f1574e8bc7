"""Query a graph: constants, weighted nodes, BatchNormalization, class scores."""

from collections.abc import Iterable

import onnx_ir as ir

from dfq_deploy.graph.logits import Logits, logits_of
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.task import score_output, score_width

__all__ = [
    "batch_normalizations",
    "constant_of",
    "name_of",
    "parameter_count",
    "score_count",
    "score_logits",
    "weight_axis",
    "weighted_nodes",
]


def name_of(value: ir.Value | None) -> str:
    """The name, which every value of a loaded model has."""
    return "" if value is None else value.name or ""


def weight_axis(node: ir.Node) -> int:
    """The output channel's axis of a weighted node's weight; for MatMul and Gemm the columns."""
    if is_op(node, ("Conv", "ConvTranspose")):
        return 0 if is_op(node, "Conv") else 1
    return 0 if node.attributes.get_int("transB", 0) else 1


def score_count(model: ir.Model, *, labelled: bool = False) -> int | None:
    """Number of classes where one output holds class scores (:func:`dfq_deploy.graph.task.score_output`), else None."""
    output = score_output(model, labelled=labelled)
    return None if output is None else score_width(output)


def score_logits(model: ir.Model, *, labelled: bool = False) -> Logits | None:
    """The logits of the output with class scores; None where there is none."""
    output = score_output(model, labelled=labelled)
    return None if output is None else logits_of(output)


def batch_normalizations(model: ir.Model) -> list[ir.Node]:
    """The BatchNormalization nodes, in order."""
    return [node for node in model.graph if is_op(node, "BatchNormalization")]


def constant_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The constant that an initializer holds; None for anything computed or fed."""
    if value is None or value.producer() is not None or not value.is_initializer():
        return None
    return value.const_value


def weighted_nodes(model: ir.Model) -> list[ir.Node]:
    """Convolutions and matrix products whose second input is a constant, in order."""
    return [
        node
        for node in model.graph
        if is_op(node, WEIGHTED_OPS) and len(node.inputs) > 1 and constant_of(node.inputs[1]) is not None
    ]


def parameter_count(values: Iterable[ir.Value]) -> int:
    """Number of elements in the constants among ``values``."""
    return sum(tensor.size for value in values if (tensor := constant_of(value)) is not None)
