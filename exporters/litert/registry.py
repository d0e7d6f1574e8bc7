"""Registry of operators: how each operator of ONNX is written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .step import Step

__all__ = ["OPERATORS", "Kind", "Operator", "Unsupported", "operator"]

Write: TypeAlias = "Callable[[Step], None]"


class Unsupported(Exception):  # noqa: N818 - it says what is wrong with one node, and is collected
    """A node that cannot be written; the message says what about it."""


Kind: TypeAlias = str
"""How integers pass through an operator.

``kernel``: LiteRT has an integer kernel with any scales. ``fixed``: one whose output scale is fixed. ``same``: values
are chosen or moved, and all inputs and outputs have one scale. ``float``: it computes in float only.
"""


@dataclass(frozen=True)
class Operator:
    """How one operator is written.

    Args:
        write: writes a node.
        kind: see :data:`Kind`.
        data: indices of the inputs that carry activations; None for all.
        weight: index of the input that has to be a constant of s8 without zero point for the integer kernel.
        fuses: the operation can apply a Relu itself.
        slow: XNNPACK lacks its integer kernel, and the one of LiteRT is slower than floats with their conversions; it
            is written for devices that compute in integers only.
    """

    write: Write
    kind: Kind = "float"
    data: tuple[int, ...] | None = (0,)
    weight: int | None = None
    fuses: bool = False
    slow: bool = False


OPERATORS: dict[str, Operator] = {}


def operator(
    *names: str,
    kind: Kind = "float",
    data: tuple[int, ...] | None = (0,),
    weight: int | None = None,
    fuses: bool = False,
    slow: bool = False,
) -> Callable[[Write], Write]:
    """Register a function that writes the operators ``names``.

    Raises:
        ValueError: one of them is registered already.
    """

    def register(write: Write) -> Write:
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"operator '{name}' is already registered")
            OPERATORS[name] = Operator(write, kind, data, weight, fuses, slow)
        return write

    return register
