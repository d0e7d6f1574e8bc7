"""What lies in the file for each tensor of the graph: floats, integers, or both."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.quantization.qdq_reader import (
    Quantization,
    constant_dequantizer,
    constant_values,
    integers_and_encoding,
    quantization_of,
)

from .orders import natural
from .registry import Unsupported
from .writer import Stored, Writer, encodings_equal

__all__ = ["Values", "constant_array", "signed_encoding", "weight_encoding"]

SIGNED = {"s8": 0, "u8": 128, "s16": 0}
"""Types of activations that LiteRT's kernels take, or that become one by a shift -> that shift."""


def signed_encoding(entry: Quantization) -> Encoding | None:
    """Return the encoding of an activation as LiteRT's kernels take it: s8, or s16 with zero point 0.

    u8 becomes s8 by a shift of 128, which changes no value. None if there is no such encoding.
    """
    kind = entry.kind or ""
    if kind not in SIGNED or entry.scale is None or entry.zero_point is None or entry.scale.size != 1:
        return None
    zero = int(np.ravel(entry.zero_point)[0]) - SIGNED[kind]
    bits = 16 if kind == "s16" else 8
    if bits == 16 and zero != 0:
        return None
    qtype = QuantType(bits, signed=True, symmetric=bits == 16)
    return Encoding(np.asarray(entry.scale, np.float32).reshape(()), np.asarray(zero, np.int32), qtype)


def weight_encoding(value: ir.Value | None) -> tuple[NDArray[np.int8], Encoding] | None:
    """Return the integers of a weight that LiteRT's kernels take, s8 with zero point 0; else None."""
    node = constant_dequantizer(value)
    if node is None:
        return None
    integers, encoding = integers_and_encoding(node)
    if not encoding.qtype.signed or encoding.qtype.bits > 8 or np.any(encoding.zero_point):
        return None
    return integers.astype(np.int8), encoding


def constant_array(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the values of a constant, dequantized where it is stored as integers; None if it is computed."""
    tensor = constant_of(value)
    if tensor is not None:
        return tensor.numpy()
    values = constant_values(value)
    return None if values is None else values.astype(np.float32)


class Values:
    """The tensors of the file by the tensors of the graph; each may lie there in several orders.

    Args:
        integer_only: write integer kernels where floats would be faster, too.
    """

    def __init__(self, writer: Writer, *, integer_only: bool = False) -> None:
        self.writer, self.integer_only = writer, integer_only
        self._floats: dict[ir.Value, list[Stored]] = {}
        self._integers: dict[ir.Value, list[Stored]] = {}

    def put(self, value: ir.Value, stored: Stored) -> None:
        """Keep what an operation wrote for ``value``."""
        table = self._floats if stored.tensor.encoding is None else self._integers
        table.setdefault(value, []).append(stored)

    def integers(self, value: ir.Value | None) -> list[Stored]:
        """Return the integers that have the values of ``value``; empty if it is float, or the type has no kernel."""
        return [] if value is None else self._integers.get(value, [])

    def plain(self, value: ir.Value | None) -> list[Stored]:
        """Return ``value`` as floats (or as what it is, if it is no float), dequantized if need be.

        Raises:
            Unsupported: nothing wrote it.
        """
        if value is None:
            raise Unsupported("an input is missing")
        if value not in self._floats:
            array = constant_array(value)
            if array is not None:
                tensor = self.writer.constant(name_of(value), array)
                self._floats[value] = [Stored(tensor, natural(array.ndim))]
            elif self.integers(value):
                source = self.integers(value)[0]
                self._floats[value] = [Stored(self.writer.dequantize(source.tensor), source.order)]
            else:
                raise Unsupported(f"its input '{name_of(value)}' is not written")
        return self._floats[value]

    def quantize(self, node: ir.Node) -> None:
        """Write a QuantizeLinear, unless the integers are there."""
        value, target = node.inputs[0], node.outputs[0]
        encoding = signed_encoding(quantization_of(node))
        if value is None or target in self._integers:
            return
        if encoding is None:
            raise Unsupported("LiteRT has activations of s8, u8, and s16 with zero point 0, with one scale")
        source = (self.integers(value) or self.plain(value))[0]
        if source.tensor.encoding is not None and encodings_equal(source.encoding, encoding):
            self._integers[target] = self._integers[value]
            return
        self.put(target, Stored(self.writer.quantize(source.tensor, encoding, name_of(target)), source.order))

    def dequantize(self, node: ir.Node) -> None:
        """Give the output of a DequantizeLinear the integers that it reads."""
        source, target = node.inputs[0], node.outputs[0]
        if constant_dequantizer(target) is not None or source is None:
            return
        entry = quantization_of(node)
        encoding = signed_encoding(entry)
        if encoding is not None and self.integers(source):
            # One list for both: what one reader transposes, the other finds.
            self._integers[target] = self._integers[source]
        elif source in self._floats and entry.scale is not None:
            self._from_plain_integers(target, self._floats[source][0], entry, encoding)
        else:
            raise Unsupported("LiteRT has no such type of activations")

    def _from_plain_integers(
        self, target: ir.Value, source: Stored, entry: Quantization, encoding: Encoding | None
    ) -> None:
        """Dequantize an input that is fed as integers: with one scale, or with one for each channel."""
        if encoding is not None and entry.kind in ("s8", "u8"):
            shift = SIGNED[entry.kind]
            fed = Encoding(encoding.scale, encoding.zero_point + shift, QuantType(8, shift == 0, symmetric=False))
            source.tensor.encoding = fed
            tensor = source.tensor
            if shift:
                tensor = self.writer.quantize(tensor, encoding, f"{tensor.name}_signed")
            self.put(target, Stored(tensor, source.order))
            return
        if entry.scale is None or entry.zero_point is None:
            raise Unsupported("its scale is computed")
        rank, axis = len(source.order), entry.axis
        place = None if axis is None else source.order.index(axis % rank)
        shape = [1 if index != place else -1 for index in range(rank)]
        scale = np.asarray(entry.scale, np.float32)
        offset = (-scale * np.asarray(entry.zero_point, np.float32)).astype(np.float32)
        writer, floats = self.writer, self.writer.tensor(f"{source.tensor.name}_float", source.tensor.shape, np.float32)
        writer.emit("CAST", [source.tensor], floats, "CastOptions")
        for code, table, parameter in (("MUL", "MulOptions", scale), ("ADD", "AddOptions", offset)):
            constant = writer.constant(
                f"{floats.name}_{table[:3].lower()}", np.resize(parameter, scale.size).reshape(shape)
            )
            result = writer.tensor(floats.name, floats.shape, np.float32)
            writer.emit(code, [floats, constant], result, table)
            floats = result
        self.put(target, Stored(floats, source.order))
