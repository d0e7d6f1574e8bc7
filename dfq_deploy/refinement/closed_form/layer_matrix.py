"""See a convolution or a matrix product as matrices that its input is multiplied with."""

from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of
from dfq_deploy.twin import Step

__all__ = ["LayerMatrix"]


@dataclass(frozen=True)
class LayerMatrix:
    """The weight of a layer as G matrices of N outputs and D inputs each.

    Args:
        groups, outputs, inputs: G, N and D.
        shape: of the weight in the graph.
        transposed: the graph holds (D, N).
    """

    groups: int
    outputs: int
    inputs: int
    shape: tuple[int, ...]
    transposed: bool = False

    @classmethod
    def of(cls, node: ir.Node) -> "LayerMatrix | None":
        """That of a Conv, a Gemm, or a MatMul with a constant matrix on the right; None for other nodes."""
        weight = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        if weight is None:
            return None
        shape = tuple(weight.shape.numpy())
        if is_op(node, "Conv"):
            groups = node.attributes.get_int("group", 1)
            return cls(groups, shape[0] // groups, int(torch.tensor(shape[1:]).prod()), shape)
        if len(shape) != 2 or not is_op(node, ("MatMul", "Gemm")) or node.attributes.get_int("transA", 0) == 1:
            return None
        if node.attributes.get_float("alpha", 1.0) != 1:
            return None
        transposed = is_op(node, "MatMul") or not node.attributes.get_int("transB", 0)
        outputs, inputs = (shape[1], shape[0]) if transposed else shape
        return cls(1, outputs, inputs, shape, transposed)

    def matrix(self, weight: Tensor) -> Tensor:
        """(G, N, D) of a weight as the graph holds it."""
        return (weight.T if self.transposed else weight).reshape(self.groups, self.outputs, self.inputs)

    def weight(self, matrix: Tensor) -> Tensor:
        """What the graph holds for (G, N, D)."""
        return matrix[0].T if self.transposed else matrix.reshape(self.shape)

    def positions(self, step: Step, values: Tensor) -> Tensor:
        """What the layer multiplies its matrices with for an input, (G, P, D): a Conv tells with unit weights."""
        if not is_op(step, "Conv"):
            return values.reshape(1, -1, self.inputs)
        units = torch.eye(self.inputs).to(values).repeat(self.groups, 1)
        found = step.operator(values, units.reshape(-1, *self.shape[1:]))
        assert isinstance(found, Tensor)
        parts = found.reshape(len(found), self.groups, self.inputs, -1)
        return parts.permute(1, 0, 3, 2).reshape(self.groups, -1, self.inputs)
