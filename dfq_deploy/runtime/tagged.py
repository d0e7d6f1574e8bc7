"""Number the nodes of a model, so that the kernels of ONNX Runtime can be traced back to them."""

import re
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, ShapeInferencePass

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.reading import ModelSource, read_any, source_name

__all__ = ["Tagged", "tag"]

BLOCKED = "_nchwc"
"""How the names of kernels for blocked layouts end, which are named after the tensor that they write."""

BLOCKED_OPS = frozenset({"AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Resize", "Upsample"})
"""Operators that have such kernels; activations and the Add of a residual branch are fused into them."""


@dataclass(frozen=True, eq=False)
class Tagged:
    """A copy of a model whose nodes carry numbers for names.

    ONNX Runtime's optimizer keeps them in the names of the kernels that it makes (``fused @7@/MatMulAddFusion``), where
    names of the file may be missing, doubled, or parts of one another.

    Args:
        model: the copy; constants are initializers, shapes are inferred.
        nodes: by number, those of nested graphs too.
        names: of those nodes in the file, or of their first outputs.
    """

    model: ir.Model
    nodes: tuple[ir.Node, ...]
    names: tuple[str, ...]

    def find(self, kernel: str) -> int | None:
        """The number of the node that a kernel named ``kernel`` stands for; None where that cannot be told."""
        match = re.search(r"@(\d+)@", kernel)
        if match is not None:
            return int(match.group(1))
        return self._behind.get(kernel.removesuffix(BLOCKED)) if kernel.endswith(BLOCKED) else None

    @cached_property
    def _behind(self) -> dict[str, int]:
        """Name of a tensor -> the number of the node with a blocked kernel that writes it, or is fused into that."""
        numbers = {node: index for index, node in enumerate(self.nodes)}
        found: dict[str, int] = {}
        for node in self.nodes:
            waiting = [node]
            while waiting and waiting[0].op_type not in BLOCKED_OPS:
                waiting = [*waiting[1:], *waiting[0].predecessors()]
            if waiting:
                found |= {str(value.name): numbers[waiting[0]] for value in node.outputs}
        return found

    def name(self, kernel: str) -> str:
        """The name in the file of what a kernel named ``kernel`` stands for; its own where that cannot be told."""
        index = self.find(kernel)
        return kernel if index is None else self.names[index]


def tag(source: ModelSource) -> Tagged:
    """Read any ONNX file, float or quantized, and number its nodes.

    Raises:
        ModelError: it is missing, no ONNX model, or its functions are for other opsets than the model.
    """
    model = read_any(source)
    try:
        InlinePass()(model)
    except ValueError as problem:
        raise ModelError(
            f"{source_name(source)}: its functions cannot be inlined ({problem}); export it again"
        ) from None
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    ShapeInferencePass(check_type=False, strict_mode=False)(model)
    nodes = tuple(model.graph.all_nodes())
    names = tuple(node.name or str(node.outputs[0].name) for node in nodes)
    for index, node in enumerate(nodes):
        node.name = f"@{index}@"
    return Tagged(model, nodes, names)
