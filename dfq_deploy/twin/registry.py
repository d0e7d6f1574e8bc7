"""Registry of operators, keyed by domain, name and version."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from dfq_deploy.twin.node import Node

__all__ = ["REGISTRY", "Builder", "Entry", "Operator", "Registry", "register"]

Operator: TypeAlias = Callable[..., Tensor | tuple[Tensor, ...]]
"""Takes tensors (None for an absent optional input) and returns one tensor or a tuple of tensors."""

Builder: TypeAlias = Callable[[Node], Operator]
"""Creates the operator of a node; reads the attributes and constants once, at import."""


@dataclass(frozen=True)
class Entry:
    """One implementation.

    Attributes:
        builder: creates the operator of a node.
        arguments: positions of inputs that are read as Python numbers (shapes, axes, pads) and kept on the CPU.
        on_host: the outputs are on the CPU regardless of the inputs (Shape, Size).
    """

    builder: Builder
    arguments: tuple[int, ...] = ()
    on_host: bool = False


class Registry:
    """Implementations by domain, operator and first opset version."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, int], Entry] = {}
        self._versions: dict[tuple[str, str], list[int]] = {}

    def add(self, domain: str, op_type: str, since: int, entry: Entry) -> None:
        """Add one implementation; a second one for the same key raises ValueError."""
        if (domain, op_type, since) in self._entries:
            raise ValueError(f"operator {domain or 'ai.onnx'}::{op_type}-{since} is registered twice")
        self._entries[domain, op_type, since] = entry
        self._versions.setdefault((domain, op_type), []).append(since)

    def find(self, domain: str, op_type: str, version: int) -> Entry | None:
        """The entry with the highest since_version not above ``version``; None if there is none."""
        versions = [since for since in self._versions.get((domain, op_type), ()) if since <= version]
        return self._entries[domain, op_type, max(versions)] if versions else None

    def __iter__(self) -> Iterator[tuple[str, str, int]]:
        """Every (domain, operator, since_version), sorted."""
        return iter(sorted(self._entries))


REGISTRY = Registry()


def register(
    *op_types: str, since: int = 1, domain: str = "", arguments: tuple[int, ...] = (), on_host: bool = False
) -> Callable[[Builder], Builder]:
    """Register the decorated builder for ``op_types``, from opset ``since`` of ``domain`` on."""

    def decorate(builder: Builder) -> Builder:
        for op_type in op_types:
            REGISTRY.add(domain, op_type, since, Entry(builder, arguments, on_host))
        return builder

    return decorate
