"""Walk a graph forward and backward."""

import onnx_ir as ir

from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op

__all__ = ["weighted_after"]


def weighted_after(node: ir.Node) -> bool:
    """True if a convolution or matrix product reads ``node``'s output, however far down."""
    seen: set[ir.Node] = set()
    waiting = [node]
    while waiting:
        for reader in waiting.pop().successors():
            if is_op(reader, WEIGHTED_OPS):
                return True
            if reader not in seen:
                seen.add(reader)
                waiting.append(reader)
    return False
