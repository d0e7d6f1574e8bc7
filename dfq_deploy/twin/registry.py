"""Registry of operators, keyed by domain, name and version."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from dfq_deploy.twin.node import Node

__all__ = ["REGISTRY", "Builder", "Entry", "Operator", "Registry", "register"]

Operator: TypeAlias = Callable[..., Tensor | tuple[Tensor, ...]]
"""Tensors in (None for an absent optional input), one tensor or a tuple of them out."""

Builder: TypeAlias = Callable[[Node], Operator]
"""Reads a node's attributes and constants once, at import."""


@dataclass(frozen=True)
class Entry:
    """One implementation.

    Attributes:
        builder: makes the operator for one node.
        arguments: positions of inputs that are read as Python numbers (shapes, axes, pads): they live on the CPU.
        on_host: the outputs live on the CPU whatever the inputs are (Shape, Size).
    """

    builder: Builder
    arguments: tuple[int, ...] = ()
    on_host: bool = False


class Registry:
    """Implementations by domain, operator and the opset since which they hold."""

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
        known = [since for since in self._versions.get((domain, op_type), ()) if since <= version]
        return self._entries[domain, op_type, max(known)] if known else None

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
