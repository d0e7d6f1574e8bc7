"""How much a model file may ask for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from dfq_deploy.files.memory import available_memory

__all__ = ["Bounds", "bounds", "default_memory", "use_bounds"]

MEMORY_SHARE = 2
"""By default a model may take one part in so many of the memory of the machine or of the container."""

FALLBACK_MEMORY = 4 * 2**30
"""Bytes, where the system does not report its memory."""


def default_memory() -> int:
    """Return half of the memory of the machine, or of the container, in bytes."""
    return (available_memory() or MEMORY_SHARE * FALLBACK_MEMORY) // MEMORY_SHARE


@dataclass(frozen=True)
class Bounds:
    """Limits for one model file.

    Args:
        memory: bytes that its tensors may take, stored or computed; half of the memory by default.
        seconds: seconds that loading it and one run may take.
        nodes: nodes after model-local functions are expanded.
        depth: levels of nested graphs.
        name_length: bytes of a name.
    """

    memory: int = field(default_factory=default_memory)
    seconds: float = 60.0
    nodes: int = 1_000_000
    depth: int = 32
    name_length: int = 4096


_current: ContextVar[Bounds | None] = ContextVar("bounds", default=None)


def bounds() -> Bounds:
    """Return the limits in force."""
    return _current.get() or Bounds()


@contextmanager
def use_bounds(limits: Bounds) -> Iterator[None]:
    """Put ``limits`` in force within the block."""
    token = _current.set(limits)
    try:
        yield
    finally:
        _current.reset(token)
