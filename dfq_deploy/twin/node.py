"""One ONNX node as operator builders see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from torch import Tensor

from dfq_deploy.errors import ModelError
from dfq_deploy.twin.dtypes import tensor_of

if TYPE_CHECKING:
    from dfq_deploy.twin.program import Program

__all__ = ["Node"]

Integers = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One node during import.

    Attributes:
        version: opset version of ``domain`` in the model.
        inputs: tensor names, "" for an absent optional input; for nodes with nested graphs, followed by the
            tensors that these capture, from position ``captured`` on.
        constants: values of the initializers and folded integer constants, by tensor name, on the CPU.
        program_of: imports a nested graph, whose free tensors are the captured ones.
    """

    name: str
    op_type: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: int
    attributes: Mapping[str, ir.Attr]
    constants: Mapping[str, Tensor]
    program_of: Callable[[ir.Graph], "Program"]

    def __str__(self) -> str:
        return f"{self.op_type} '{self.name}'"

    def has(self, index: int) -> bool:
        """True if input ``index`` is present."""
        return index < self.captured and self.inputs[index] != ""

    def wants(self, index: int) -> bool:
        """True if output ``index`` is used."""
        return index < len(self.outputs) and self.outputs[index] != ""

    def _value(self, name: str) -> Any:
        attribute = self.attributes.get(name)
        return None if attribute is None else attribute.value

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        value = self._value(name)
        return default if value is None else int(value)

    def number(self, name: str, default: float = 0.0) -> float:
        """A float attribute."""
        value = self._value(name)
        return default if value is None else float(value)

    def text(self, name: str, default: str = "") -> str:
        """A string attribute."""
        value = self._value(name)
        return default if value is None else str(value)

    def integers(self, name: str) -> Integers | None:
        """A list of integers, None if it is absent."""
        value = self._value(name)
        return None if value is None else tuple(int(item) for item in value)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """A list of floats, None if it is absent."""
        value = self._value(name)
        return None if value is None else tuple(float(item) for item in value)

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of strings, None if it is absent."""
        value = self._value(name)
        return None if value is None else tuple(str(item) for item in value)

    def tensor(self, name: str) -> Tensor | None:
        """A tensor attribute, None if it is absent."""
        value = self._value(name)
        return None if value is None else tensor_of(value, str(self))

    def program(self, name: str) -> "Program":
        """The nested graph of an attribute, imported."""
        return self.program_of(self.attributes[name].as_graph())

    def constant(self, index: int) -> Tensor | None:
        """The value of input ``index`` if it is constant, else None."""
        return self.constants.get(self.inputs[index]) if self.has(index) else None

    def integers_at(self, index: int) -> Callable[[Tensor | None], Integers]:
        """A function that reads input ``index`` as integers: a constant, or the value of the tensor at run time."""
        constant = self.constant(index)
        if constant is None:
            return _read_integers
        integers = _read_integers(constant)
        return lambda _: integers

    def integer_at(self, index: int) -> Callable[[Tensor | None], int]:
        """A function that reads input ``index`` as one integer."""
        constant = self.constant(index)
        if constant is None:
            return _read_integer
        integer = _read_integer(constant)
        return lambda _: integer

    def refuse(self, reason: str) -> ModelError:
        """The error for a form of the operator that is not supported."""
        return ModelError(f"{self}: {reason}")


def _read_integers(tensor: Tensor | None) -> Integers:
    if tensor is None:
        return ()
    return tuple(int(item) for item in tensor.reshape(-1).tolist())


def _read_integer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else int(tensor.item())
