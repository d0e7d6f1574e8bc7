"""Decide which tensors stay on the CPU.

Shape arithmetic (Shape, Gather, Concat, Reshape) ends in Python integers. On the GPU every such number would
wait for all work before it, so tensors that are computed from shapes and small constants alone stay on the CPU.
"""

from collections.abc import Mapping, Set

from torch import Tensor

from dfq_deploy.twin.registry import Entry

__all__ = ["is_host"]

SMALL = 8
"""A float constant of at most so many elements may take part in shape arithmetic (scales of a Resize)."""


def is_host(entry: Entry, inputs: tuple[str, ...], host: Set[str], constants: Mapping[str, Tensor]) -> bool:
    """True if the node's outputs live on the CPU.

    Args:
        entry: what the registry says of the operator.
        inputs: tensor names of the node, "" where absent.
        host: names of computed tensors that are known to live on the CPU.
        constants: initializers by name.
    """
    if entry.on_host:
        return True
    data = [name for position, name in enumerate(inputs) if name and position not in entry.arguments]
    fixed = [constants[name] for name in data if name in constants]
    computed = [name for name in data if name not in constants]
    if not computed:
        return not any(constant.is_floating_point() for constant in fixed)
    return all(name in host for name in computed) and all(
        not constant.is_floating_point() or constant.numel() <= SMALL for constant in fixed
    )
