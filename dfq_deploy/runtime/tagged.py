"""Number the nodes of a model to trace ONNX Runtime's kernels back to them."""

import re
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, ShapeInferencePass

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.reading import ModelSource, read_any, source_name

__all__ = ["Tagged", "tag"]

BLOCKED = "_nchwc"
"""Suffix of the names of kernels for blocked layouts, which are named after their output."""

SCALED = ("_mul_nchwc", "_bn_nchwc")
"""Suffixes of kernels that compute a Mul by channel or a BatchNormalization as a Conv of 1x1 in a blocked layout."""

BLOCKED_OPS = frozenset({"AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Resize", "Upsample"})
"""Operators with such kernels; activation functions and the Add of a residual branch are fused into them."""


@dataclass(frozen=True, eq=False)
class Tagged:
    """A copy of a model whose nodes are named by numbers.

    ONNX Runtime's optimizer keeps them in the names of kernels (``fused @7@/MatMulAddFusion``); the names in the file
    may be missing, duplicate, or parts of each other.

    Args:
        model: the copy; constants are initializers, shapes are inferred.
        nodes: by number, those of nested graphs too.
        names: names of these nodes in the file, or of their first outputs.
    """

    model: ir.Model
    nodes: tuple[ir.Node, ...]
    names: tuple[str, ...]

    def find(self, kernel: str) -> int | None:
        """Return the number of the node that the kernel named ``kernel`` computes; None if unknown."""
        match = re.search(r"@(\d+)@", kernel)
        if match is not None:
            return int(match.group(1))
        return self._by_output.get(kernel.removesuffix(BLOCKED)) if kernel.endswith(BLOCKED) else None

    def only_scales(self, kernel: str) -> bool:
        """Return True for a Conv that ONNX Runtime made of a Mul or BatchNormalization: no layer of the file."""
        tensors = [kernel.removesuffix(suffix) for suffix in SCALED if kernel.endswith(suffix)]
        return any(tensor in self._written for tensor in tensors) and kernel.removesuffix(BLOCKED) not in self._written

    @cached_property
    def _written(self) -> frozenset[str]:
        return frozenset(str(value.name) for node in self.nodes for value in node.outputs)

    @cached_property
    def _by_output(self) -> dict[str, int]:
        """Name of each tensor -> number of the node whose blocked kernel writes it, after fusion."""
        numbers = {node: index for index, node in enumerate(self.nodes)}
        numbers_by_tensor: dict[str, int] = {}
        for node in self.nodes:
            waiting = [node]
            while waiting and waiting[0].op_type not in BLOCKED_OPS:
                waiting = [*waiting[1:], *waiting[0].predecessors()]
            if waiting:
                numbers_by_tensor |= {str(value.name): numbers[waiting[0]] for value in node.outputs}
        return numbers_by_tensor

    def name(self, kernel: str) -> str:
        """Return the name in the file of the node that ``kernel`` computes; ``kernel`` itself if unknown."""
        index = self.find(kernel)
        return kernel if index is None else self.names[index]

    def restored(self, text: str) -> str:
        """Return a message of a runtime with the names of the file in place of the numbers."""
        return re.sub(r"@(\d+)@", lambda match: self.names[int(match.group(1))], text)


def tag(source: ModelSource) -> Tagged:
    """Read any ONNX file, float or quantized, and number its nodes.

    Raises:
        ModelError: the file does not exist, is not an ONNX model, or its functions need other opsets than the model.
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
