"""Write an Einsum that is a matrix product as MatMul, for which runtimes have integer kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters

import numpy as np
import onnx_ir as ir

from dfq_deploy.graph.editing import Names, add_constant, drop_unused_initializers
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of

__all__ = ["rewrite_einsums"]


@dataclass(frozen=True)
class _Product:
    """The letters of an equation of two operands.

    Args:
        batch: in both operands and in the output; ``summed``: in both operands alone; ``rows``, ``columns``: in the
            first, or the second one, and in the output.
    """

    operands: tuple[str, str]
    output: str
    batch: str
    summed: str
    rows: str
    columns: str


def rewrite_einsums(model: ir.Model) -> tuple[str, ...]:
    """Rewrite, in place, each Einsum of the main graph that is a product of two operands; the function is the same.

    Rules: (1) a product with a constant, of any number of summed letters and of columns, reads the constant as a
    matrix, and its other operand with the summed letters last; (2) a product of two activations has one letter of each
    kind beside the batch. Transposes and Reshapes are added where the letters stand in another order.

    Returns:
        names of the nodes that were rewritten.
    """
    names = Names(model.graph)
    done = [str(node.name) for node in list(model.graph) if is_op(node, "Einsum") and _rewritten(node, names)]
    drop_unused_initializers(model.graph)
    return tuple(done)


def _rewritten(node: ir.Node, names: Names) -> bool:
    if len(node.inputs) != 2 or node.outputs[0].dtype != ir.DataType.FLOAT:
        return False
    first, second = node.inputs
    if first is None or second is None or first.shape is None or second.shape is None:
        return False
    equation = node.attributes.get_string("equation", "") or ""
    product = _parsed(_spelled_out(equation, (len(first.shape), len(second.shape))))
    if product is None:
        return False
    if constant_of(first) is not None and constant_of(second) is None:
        first, second = second, first
        product = _Product(
            product.operands[::-1], product.output, product.batch, product.summed, product.columns, product.rows
        )
    steps = _Steps(node, product, (first, second), names)
    if constant_of(second) is not None and not product.batch and product.rows and constant_of(first) is None:
        steps.dense(first, second)
    elif {len(product.summed), len(product.rows), len(product.columns)} == {1}:
        steps.between(first, second)
    else:
        return False
    return True


def _spelled_out(equation: str, ranks: Sequence[int]) -> str:
    """``equation`` with letters in place of ``...`` and with its output; as it is where it does not fit the ranks."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    counts = [rank - len(part.replace("...", "")) for part, rank in zip(operands, ranks, strict=False)]
    if len(operands) != len(ranks) or any(
        count < 0 or (count > 0) != ("..." in part) for part, count in zip(operands, counts, strict=True)
    ):
        return equation
    free = [letter for letter in ascii_letters if letter not in equation][: max(counts)]
    spread = ["".join(free[len(free) - count :]) for count in counts]
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        output = "..." + "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    operands = [part.replace("...", more) for part, more in zip(operands, spread, strict=True)]
    return f"{','.join(operands)}->{output.replace('...', ''.join(free))}"


def _parsed(equation: str) -> _Product | None:
    """The letters of ``ab,bc->ac``; None for an ellipsis, a diagonal, a sum over one operand, or another number."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if not arrow or len(operands) != 2 or "." in equation:
        return None
    first, second = operands
    if any(len(set(letters)) != len(letters) for letters in (first, second, output)):
        return None
    batch = "".join(letter for letter in output if letter in first and letter in second)
    summed = "".join(letter for letter in first if letter in second and letter not in output)
    rows = "".join(letter for letter in output if letter in first and letter not in second)
    columns = "".join(letter for letter in output if letter in second and letter not in first)
    if set(first) != {*batch, *summed, *rows} or set(second) != {*batch, *summed, *columns} or not summed:
        return None
    return _Product((first, second), output, batch, summed, rows, columns)


class _Steps:
    """Builds the nodes that stand for one Einsum."""

    def __init__(self, node: ir.Node, product: _Product, operands: Sequence[ir.Value], names: Names) -> None:
        self.node, self.product, self.names = node, product, names
        self.sizes: dict[str, int | ir.SymbolicDim] = {}
        for letters, value in zip(product.operands, operands, strict=True):
            for letter, dim in zip(letters, value.shape or (), strict=False):
                if self.sizes.get(letter, 1) == 1:  # the other operand is broadcast
                    self.sizes[letter] = dim

    def dense(self, value: ir.Value, weight: ir.Value) -> None:
        """Rule 1."""
        product = self.product
        letters = product.operands[1]
        array = constant_of(weight).numpy()  # type: ignore[union-attr]
        sizes = dict(zip(letters, array.shape, strict=True))
        matrix = array.transpose([letters.index(letter) for letter in product.summed + product.columns])
        inner = int(np.prod([sizes[letter] for letter in product.summed]))
        constant = self._constant(f"{name_of(weight)}_matrix", np.ascontiguousarray(matrix.reshape(inner, -1)))
        count = len(product.rows)
        read = self._transposed(value, product.operands[0], product.rows + product.summed)
        if len(product.summed) > 1:
            read = self._reshaped(read, [0] * count + [inner])
        result = self._step("MatMul", [read, constant])
        result.shape = ir.Shape([*(self.sizes[letter] for letter in product.rows), matrix.reshape(inner, -1).shape[1]])
        if len(product.columns) != 1:
            result = self._reshaped(result, [0] * count + [sizes[letter] for letter in product.columns])
        self._end(result, product.rows + product.columns)

    def between(self, first: ir.Value, second: ir.Value) -> None:
        """Rule 2."""
        product = self.product
        left = self._transposed(first, product.operands[0], product.batch + product.rows + product.summed)
        right = self._transposed(second, product.operands[1], product.batch + product.summed + product.columns)
        result = self._step("MatMul", [left, right])
        letters = product.batch + product.rows + product.columns
        result.shape = ir.Shape([self.sizes[letter] for letter in letters])
        self._end(result, letters)

    def _end(self, result: ir.Value, letters: str) -> None:
        """Give ``result`` the order, the name and the readers of the output."""
        old, graph = self.node.outputs[0], self.node.graph
        last = self._transposed(result, letters, self.product.output)
        name, last.type, last.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(last, replace_graph_outputs=True)
        if graph is not None:
            graph.remove(self.node, safe=True)
        old.name, last.name = None, name

    def _transposed(self, value: ir.Value, letters: str, wanted: str) -> ir.Value:
        if letters == wanted:
            return value
        order = [letters.index(letter) for letter in wanted]
        turned = self._step("Transpose", [value], {"perm": order})
        turned.shape = None if value.shape is None else ir.Shape([value.shape[axis] for axis in order])
        return turned

    def _reshaped(self, value: ir.Value, shape: Sequence[int]) -> ir.Value:
        constant = self._constant(f"{self.node.name}_shape", np.array(shape, np.int64))
        reshaped = self._step("Reshape", [value, constant])
        dims = list(value.shape or ())
        reshaped.shape = ir.Shape([size or dims[axis] for axis, size in enumerate(shape)])
        return reshaped

    def _step(self, op_type: str, inputs: list[ir.Value], attributes: dict[str, list[int]] | None = None) -> ir.Value:
        step = ir.node(op_type, inputs, attributes or {}, name=self.names.fresh(f"{self.node.name}_{op_type}"))
        output = step.outputs[0]
        output.name, output.type = self.names.fresh(f"{step.name}_output"), ir.TensorType(ir.DataType.FLOAT)
        if self.node.graph is not None:
            self.node.graph.insert_before(self.node, step)
        return output

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        return add_constant(graph, self.names.fresh(name), array)
