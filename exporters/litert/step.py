"""One node while it is written: its inputs as the operation takes them, and where its output goes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.graph.operators import QUANTIZE_OPS, is_op
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.placement.limits import activation_limits
from dfq_deploy.quantization.qdq_reader import quantization_of
from dfq_deploy.quantization.weights import encoding_of_weight

from .orders import Order, Shape, natural, permuted
from .registry import OPERATORS, Operator, Unsupported
from .tensors import Tensor
from .values import Values, constant_array, signed_encoding, weight_encoding
from .writer import Stored, Writer, encodings_equal

__all__ = ["FUSED", "Step", "static_shape"]

FUSED = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
"""Bounds of activations that operations apply themselves -> their name in ActivationFunctionType."""

ACTIVATION = QuantType(8, signed=True, symmetric=False)


class Step:
    """A node, and what its function needs to write it.

    Args:
        values: the tensors that are written so far.
    """

    def __init__(self, node: ir.Node, values: Values) -> None:
        self.node, self.values = node, values
        self.writer: Writer = values.writer
        self.operator: Operator = OPERATORS[node.op_type]
        self.activation = "NONE"
        self.final = node.outputs[0]
        self.skipped: ir.Node | None = None
        self.encoding = self._encoding_after(self.final)
        self._fuse()
        self.requested = self.encoding
        self.is_integer = self._is_integer()
        if not self.is_integer:
            self.use_floats()
        if self.is_integer and self.operator.kind == "same":
            self.encoding = self.integer_inputs()[0][0].encoding

    @property
    def is_hybrid(self) -> bool:
        """True if a layer of 8 bits has to write floats: its input is one of the kernel's floats, its weight is not."""
        stored = self.integer_inputs()
        return not self.is_integer and self._integers_possible() and stored[0][0].encoding.qtype.bits == 8

    def use_floats(self) -> None:
        """Write this node in floats, though integers would be possible."""
        self.is_integer = False
        if self.skipped is not None and self.activation == "NONE":
            self.final, self.skipped = self.node.outputs[0], None  # no integers saturate where the Relu or Clip does

    # inputs

    @property
    def inputs(self) -> list[ir.Value]:
        """The inputs that carry activations."""
        indices = range(len(self.node.inputs)) if self.operator.data is None else self.operator.data
        return [value for index in indices if index < len(self.node.inputs) and (value := self.node.inputs[index])]

    def integer_inputs(self) -> list[list[Stored]]:
        """The integers of the inputs that are not constants."""
        return [self.values.integers(value) for value in self.inputs if constant_array(value) is None]

    def input(self, index: int, order: Order | None = None) -> Stored:
        """Return an input as this operation takes it: in integers or floats, in ``order`` or as it lies."""
        value = self.node.inputs[index]
        versions = self.versions(value)
        return versions[0] if order is None else self.writer.in_order(versions, order)

    def versions(self, value: ir.Value | None) -> list[Stored]:
        """Return the tensors of an activation, in integers or floats as this operation takes it."""
        return self.values.integers(value) if self.is_integer else self.values.plain(value)

    def constant(self, index: int) -> NDArray[Any] | None:
        """Return the values of a constant input, dequantized; None if there is none, or it is computed."""
        return constant_array(self.node.inputs[index]) if index < len(self.node.inputs) else None

    def required(self, index: int, what: str) -> NDArray[Any]:
        """Return the values of a constant input.

        Raises:
            Unsupported: it is computed.
        """
        values = self.constant(index)
        if values is None:
            raise Unsupported(f"its {what} is computed, not a constant")
        return values

    def operand(self, index: int, order: Order) -> Tensor:
        """Return an operand of a broadcasting operation, with as many axes as ``order``, in that order."""
        value, rank = self.node.inputs[index], len(order)
        array = constant_array(value)
        if array is not None:
            expanded = array.reshape((1,) * (rank - array.ndim) + array.shape)
            return self.constant_operand(f"{name_of(value)}", expanded.transpose(order))
        versions = self.versions(value)
        missing = rank - len(versions[0].order)
        if missing:
            plain = self.writer.in_order(versions, natural(rank - missing))
            versions = [Stored(self.writer.reshape(plain.tensor, (1,) * missing + plain.shape), natural(rank))]
        return self.writer.in_order(versions, order).tensor

    def constant_operand(self, name: str, array: NDArray[Any]) -> Tensor:
        """Add a constant that an operation reads beside its activations, quantized where these are."""
        array = np.ascontiguousarray(array)
        if not self.is_integer:
            return self.writer.constant(name, array)
        bits = self.integer_inputs()[0][0].encoding.qtype.bits
        encoding = encoding_of_weight(array, QuantType(bits, signed=True, symmetric=bits == 16), None)
        return self.writer.constant(name, encoding.quantize(array).astype(f"int{bits}"), encoding)

    def preferred_order(self, rank: int) -> Order:
        """Return the order of the largest input with ``rank`` axes: what has to be moved for it is smallest."""
        stored = [self.versions(value)[0] for value in self.inputs if constant_array(value) is None]
        fitting = [entry for entry in stored if len(entry.order) == rank]
        if not fitting:
            return natural(rank)
        return max(fitting, key=lambda entry: np.prod(entry.shape)).order

    # outputs

    @property
    def shape(self) -> Shape:
        """The shape of the output in the graph."""
        return static_shape(self.node.outputs[0])

    def output(self, order: Order, index: int = 0) -> Tensor:
        """Add the tensor that the operation writes, in the encoding that its readers want."""
        value = self.final if index == 0 else self.node.outputs[index]
        shape = permuted(static_shape(self.node.outputs[index]), order)
        if self.is_integer and self.encoding is not None:
            return self.writer.tensor(name_of(value), shape, f"int{self.encoding.qtype.bits}", self.encoding)
        dtype = np.dtype(np.float32) if value.dtype is None else value.dtype.numpy()
        return self.writer.tensor(name_of(value), shape, dtype)

    def temporary(self, shape: Sequence[int], encoding: Encoding | None = None, dtype: Any = np.float32) -> Tensor:
        """Add a tensor between two operations of one node."""
        kind = dtype if encoding is None else f"int{encoding.qtype.bits}"
        return self.writer.tensor(f"{self.node.name}_part", shape, kind, encoding)

    def store(self, tensor: Tensor, order: Order, index: int = 0) -> None:
        """Keep ``tensor`` as what the node writes; its readers find it."""
        self.values.put(self.final if index == 0 else self.node.outputs[index], Stored(tensor, order))

    def write(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        order: Order,
        table: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the operation that computes the output, and keep it."""
        output = self.output(order)
        merged = dict(options or {})
        if self.activation != "NONE":
            merged["fusedActivationFunction"] = self.activation
        self.writer.emit(code, inputs, output, table, merged)
        self.store(output, order)

    # attributes

    def integer(self, name: str, default: int) -> int:
        """Return an attribute."""
        value = self.node.attributes.get_int(name, default)
        return default if value is None else value

    def number(self, name: str, default: float) -> float:
        """Return an attribute."""
        value = self.node.attributes.get_float(name, default)
        return default if value is None else value

    def text(self, name: str, default: str) -> str:
        """Return an attribute."""
        value = self.node.attributes.get_string(name, default)
        return default if value is None else value

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """Return an attribute."""
        return list(self.node.attributes.get_ints(name, default) or default)

    # how it is written

    def _encoding_after(self, value: ir.Value) -> Encoding | None:
        """Return the encoding that all readers of ``value`` want; None if one of them reads floats."""
        if value.is_graph_output() or not value.uses():
            return None
        found: list[Encoding] = []
        for use in value.uses():
            encoding = signed_encoding(quantization_of(use.node)) if is_op(use.node, QUANTIZE_OPS) else None
            if encoding is None or (found and not encodings_equal(found[0], encoding)):
                return None
            found.append(encoding)
        return found[0]

    def _fuse(self) -> None:
        """Take over the Relu or Clip behind the node, if it is the only reader."""
        value = self.node.outputs[0]
        readers = [use.node for use in value.uses()]
        if len(readers) != 1 or value.is_graph_output() or not is_op(readers[0], ("Relu", "Clip")):
            return
        bounds = _bounds(readers[0])
        if bounds is None or self.operator.kind == "same":
            return
        encoding = self._encoding_after(readers[0].outputs[0])
        fusable = FUSED.get(bounds) if self.operator.fuses else None
        if encoding is not None and _is_within(encoding, readers[0]):
            self.encoding = encoding  # the integers saturate where the Relu or Clip does
            self.activation = (fusable or "NONE") if not self._integers_possible() else "NONE"
        elif fusable is not None:
            self.encoding, self.activation = encoding, fusable
        else:
            return
        self.final, self.skipped = readers[0].outputs[0], readers[0]

    def _is_integer(self) -> bool:
        kind = self.operator.kind
        if kind == "float" or (self.operator.slow and not self.values.integer_only) or not self._integers_possible():
            return False
        if kind == "same":
            first, *others = [entry[0].encoding for entry in self.integer_inputs()]
            # Without readers that want integers there is no scale to bring several to.
            return self.requested is not None or all(encodings_equal(first, other) for other in others)
        bits = {entry[0].encoding.qtype.bits for entry in self.integer_inputs()}
        return self.encoding is not None and bits == {self.encoding.qtype.bits}

    def _integers_possible(self) -> bool:
        """Return True if all inputs are integers of one width, and the weight is one that the kernels take."""
        stored = self.integer_inputs()
        if not stored or not all(stored) or len({entry[0].encoding.qtype.bits for entry in stored}) > 1:
            return False
        weight = self.operator.weight
        if weight is None:
            return True
        value = self.node.inputs[weight]
        if constant_array(value) is None:
            return weight in (self.operator.data or ())
        return weight_encoding(value) is not None


def static_shape(value: ir.Value) -> Shape:
    """Return the shape of ``value``.

    Raises:
        Unsupported: it is unknown.
    """
    if value.shape is None or not value.shape.is_static():
        raise Unsupported(f"the shape of its output '{name_of(value)}' depends on values")
    return tuple(int(dim) for dim in value.shape.numpy())


def _bounds(node: ir.Node) -> tuple[float, float] | None:
    """Return the bounds of a Relu, or of a Clip with constant ones."""
    if is_op(node, "Relu"):
        return (0.0, float("inf"))
    bounds = [-float("inf"), float("inf")]
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            constant = constant_array(value)
            if constant is None:
                return None
            bounds[index] = float(constant)
    return bounds[0], bounds[1]


def _is_within(encoding: Encoding, node: ir.Node) -> bool:
    """Return True if ``encoding`` does not reach beyond the bounds of a Relu or Clip by half a step or more."""
    limits = activation_limits(node)
    half = 0.51 * float(encoding.scale)
    span = encoding.range
    return limits is not None and limits[0] - half <= span.low and span.high <= limits[1] + half
