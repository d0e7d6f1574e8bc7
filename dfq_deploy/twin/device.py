"""Decide which tensors stay on the CPU.

The results of shape arithmetic (Shape, Gather, Concat, Reshape) are read as Python integers. On the GPU each such
reading would synchronize, so tensors that are computed only from shapes and small constants stay on the CPU.
"""

from collections.abc import Mapping, Set

from torch import Tensor

from dfq_deploy.twin.registry import Entry

__all__ = ["is_host"]

SMALL = 8
"""Maximum number of elements of a float constant in shape arithmetic (e.g. the scales of a Resize)."""


def is_host(entry: Entry, inputs: tuple[str, ...], host: Set[str], constants: Mapping[str, Tensor]) -> bool:
    """True if the outputs of the node are on the CPU.

    Args:
        entry: the registry entry of the operator.
        inputs: tensor names of the node, "" for an absent one.
        host: names of the computed tensors that are on the CPU.
        constants: initializers by name.
    """
    if entry.on_host:
        return True
    data = [name for position, name in enumerate(inputs) if name and position not in entry.arguments]
    constant_inputs = [constants[name] for name in data if name in constants]
    computed = [name for name in data if name not in constants]
    if not computed:
        return not any(constant.is_floating_point() for constant in constant_inputs)
    return all(name in host for name in computed) and all(
        not constant.is_floating_point() or constant.numel() <= SMALL for constant in constant_inputs
    )
