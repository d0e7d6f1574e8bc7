"""Add tensors and operations to a file: constants once each, quantization, moves of axes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding

from .orders import Order, Shape, permuted, same_bytes, steps_between
from .tensors import Graph, Operation, Tensor

__all__ = ["Stored", "Writer", "encodings_equal", "integer_dtype"]

FLOAT = np.dtype(np.float32)


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor of the graph as it lies in the file.

    Args:
        order: of its axes (:mod:`.orders`).
    """

    tensor: Tensor
    order: Order

    @property
    def shape(self) -> Shape:
        """The shape in the graph."""
        return tuple(self.tensor.shape[self.order.index(axis)] for axis in range(len(self.order)))

    @property
    def encoding(self) -> Encoding:
        """The encoding of integers.

        Raises:
            ValueError: the tensor is not quantized.
        """
        if self.tensor.encoding is None:
            raise ValueError(f"tensor '{self.tensor.name}' is not quantized")
        return self.tensor.encoding


class Writer:
    """Collects the tensors and operations of one file."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._names: set[str] = set()
        self._constants: dict[bytes, Tensor] = {}
        self._reshaped: dict[Tensor, Tensor] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: Any, encoding: Encoding | None = None) -> Tensor:
        """Add a tensor that an operation writes or a caller feeds."""
        made = Tensor(self._fresh(name), tuple(map(int, shape)), np.dtype(dtype), encoding)
        self.graph.tensors.append(made)
        return made

    def constant(self, name: str, values: Any, encoding: Encoding | None = None) -> Tensor:
        """Add a constant, or return the one that is there with the same values and encoding."""
        array: NDArray[Any] = np.asarray(values)  # tostring is in C order, and an array of rank 0 keeps its rank
        label = [str((array.shape, array.dtype)).encode(), array.tobytes()]
        if encoding is not None:
            label += [encoding.scale.tobytes(), encoding.zero_point.tobytes(), str(encoding.axis).encode()]
        key = hashlib.sha256(b"|".join(label)).digest()
        if key not in self._constants:
            made = self.tensor(name, array.shape, array.dtype, encoding)
            made.data = array
            self._constants[key] = made
        return self._constants[key]

    def numbers(self, name: str, values: Sequence[int] | NDArray[Any] | int) -> Tensor:
        """Add a constant of int32: axes, shapes, paddings."""
        return self.constant(name, np.asarray(values, np.int32))

    def emit(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        output: Tensor | Sequence[Tensor],
        table: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an operation that writes ``output``."""
        outputs = [output] if isinstance(output, Tensor) else list(output)
        self.graph.operations.append(
            Operation(code, inputs, outputs, None if table is None else (table, options or {}))
        )

    def like(self, name: str, model: Tensor, shape: Sequence[int]) -> Tensor:
        """Add a tensor of the type and encoding of ``model``."""
        return self.tensor(name, shape, model.dtype, model.encoding)

    def reshape(self, source: Tensor, shape: Sequence[int]) -> Tensor:
        """Return ``source`` in another shape: one RESHAPE for a row of them, none where the shape is the same."""
        source = self._reshaped.get(source, source)
        if tuple(shape) == source.shape:
            return source
        output = self.like(f"{source.name}_reshape", source, shape)
        target = self.numbers("shape", list(shape))
        self.emit("RESHAPE", [source, target], output, "ReshapeOptions", {"newShape": list(shape)})
        self._reshaped[output] = source
        return output

    def in_order(self, versions: list[Stored], order: Order) -> Stored:
        """Return one of ``versions`` in ``order``; a TRANSPOSE or RESHAPE that it takes is kept for the next reader."""
        for entry in versions:
            if entry.order == order:
                return entry
        shape = versions[0].shape
        found = next((entry for entry in versions if same_bytes(shape, entry.order, order)), None)
        if found is not None:
            moved = Stored(self.reshape(found.tensor, permuted(shape, order)), order)
        else:
            source = versions[0]
            output = self.like(f"{source.tensor.name}_transpose", source.tensor, permuted(shape, order))
            steps = self.numbers("permutation", list(steps_between(source.order, order)))
            self.emit("TRANSPOSE", [source.tensor, steps], output, "TransposeOptions")
            moved = Stored(output, order)
        versions.append(moved)
        return moved

    def quantize(self, source: Tensor, encoding: Encoding, name: str) -> Tensor:
        """Return ``source``, floats or integers, as integers of ``encoding``."""
        output = self.tensor(name, source.shape, integer_dtype(encoding), encoding)
        self.emit("QUANTIZE", [source], output, "QuantizeOptions")
        return output

    def dequantize(self, source: Tensor) -> Tensor:
        """Return integers as floats."""
        output = self.tensor(f"{source.name}_float", source.shape, FLOAT)
        self.emit("DEQUANTIZE", [source], output, "DequantizeOptions")
        return output

    def in_encoding(self, source: Tensor, encoding: Encoding) -> Tensor:
        """Return integers in ``encoding``, with a QUANTIZE where theirs is another."""
        if source.encoding is not None and encodings_equal(source.encoding, encoding):
            return source
        return self.quantize(source, encoding, f"{source.name}_requantized")

    def _fresh(self, base: str) -> str:
        name, count = base, 0
        while name in self._names:
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name


def integer_dtype(encoding: Encoding) -> np.dtype[Any]:
    """Return the type in which a file stores integers of ``encoding``."""
    bits, signed = encoding.qtype.bits, encoding.qtype.signed
    return np.dtype(f"{'' if signed else 'u'}int{next(width for width in (8, 16, 32) if width >= bits)}")


def encodings_equal(first: Encoding, second: Encoding) -> bool:
    """Return True if both give every integer the same value."""
    return (
        first.qtype.bits == second.qtype.bits
        and first.qtype.signed == second.qtype.signed
        and np.array_equal(first.scale, second.scale)
        and np.array_equal(first.zero_point, second.zero_point)
    )
