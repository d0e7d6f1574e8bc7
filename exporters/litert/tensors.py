"""Tensors and operations of a .tflite file before it is serialized."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding

from .orders import Order

__all__ = ["Graph", "Operation", "Port", "Tensor"]


@dataclass(eq=False)
class Tensor:
    """One tensor.

    Args:
        name: unique in the file.
        shape: as in the file.
        dtype: element type.
        encoding: scale and zero point of integers; None for floats and plain integers.
        data: the values of a constant, else None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    encoding: Encoding | None = None
    data: NDArray[Any] | None = None


@dataclass(eq=False)
class Operation:
    """One operation.

    Args:
        code: name in ``BuiltinOperator``.
        inputs: None for an optional input that is left out.
        options: the table of its options, without ``T``, and the values that differ from the defaults.
    """

    code: str
    inputs: Sequence[Tensor | None]
    outputs: Sequence[Tensor]
    options: tuple[str, Mapping[str, Any]] | None = None


class Port(NamedTuple):
    """An input or output of the model: its name in the ONNX model, its tensor, and how its axes lie."""

    name: str
    tensor: Tensor
    order: Order


@dataclass(eq=False)
class Graph:
    """Everything that is in the file; inputs and outputs in the order of the ONNX model."""

    tensors: list[Tensor] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)

    def drop_unused(self) -> None:
        """Remove operations and tensors that no output depends on."""
        needed = {port.tensor for port in self.outputs}
        for operation in reversed(self.operations):
            if not needed.isdisjoint(operation.outputs):
                needed.update(tensor for tensor in operation.inputs if tensor is not None)
                needed.update(operation.outputs)
        needed.update(port.tensor for port in self.inputs)
        self.operations = [entry for entry in self.operations if not needed.isdisjoint(entry.outputs)]
        self.tensors = [tensor for tensor in self.tensors if tensor in needed]
