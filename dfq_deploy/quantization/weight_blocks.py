"""Weights alone: matrices of a few bits, with a scale and a zero point for each block of inputs.

Where one row at a time is computed (a text encoder, a decoder) a product waits for its weights, not for the
multipliers. Stored in 4 bits they are read eight times as fast, activations stay float, and nothing has to be
calibrated. ONNX Runtime's kernel is MatMulNBits.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of
from dfq_deploy.quantization.dynamic import FEWEST_WEIGHTS
from dfq_deploy.targets.target import Target

__all__ = ["BLOCK", "WIDTHS", "BlockWeight", "block_weight", "fits_blocks", "mark_blocks", "matrix_of", "round_block"]

Floats = NDArray[np.floating[Any]]

BLOCK = 32
"""Inputs that share a scale and a zero point: 0.6 bits more for each weight of 4 bits."""

WIDTHS = (4, 8)
"""Widths that MatMulNBits has kernels for on a CPU."""

SHRINKING = np.linspace(1.0, 0.6, 9)
"""Parts of a block's range that are tried: what is clipped costs less than the finer steps gain, or not."""

MARK = "dfq_deploy.blocks"
"""Key in the ``meta`` of a node; it is not written to a file."""


@dataclass(frozen=True, eq=False)
class BlockWeight:
    """A matrix in blocks.

    Args:
        codes: uint8 (N, blocks, BLOCK), from 0 to 2^bits - 1; inputs that fill up the last block have the zero point.
        scale: float32 (N, blocks).
        zero_point: uint8 (N, blocks).
        inputs: K, the number of columns that are not filled up.
        bits: width of the codes.
    """

    codes: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.uint8]
    inputs: int
    bits: int

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The matrix (N, K) that the codes stand for."""
        values = (self.codes.astype(np.float32) - self.zero_point[..., None]) * self.scale[..., None]
        matrix: NDArray[np.float32] = values.reshape(len(values), -1)[:, : self.inputs]
        return matrix


def fits_blocks(node: ir.Node, target: Target) -> bool:
    """True for a product of a large constant matrix for which ``target`` has a kernel that reads blocks."""
    if not is_op(node, target.block_ops) or len(node.inputs) < 2:
        return False
    weight = constant_of(node.inputs[1])
    if weight is None or weight.dtype != ir.DataType.FLOAT or len(weight.shape) != 2 or weight.size < FEWEST_WEIGHTS:
        return False
    factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    return factors == [1.0, 1.0] and not node.attributes.get_int("transA", 0)


def matrix_of(node: ir.Node) -> NDArray[np.float32]:
    """The weight of ``node`` as (N, K): a row for each output.

    Raises:
        ValueError: it is not constant.
    """
    weight = constant_of(node.inputs[1])
    if weight is None:
        raise ValueError(f"node '{node.name}' has no constant weight")
    values = np.asarray(weight.numpy(), np.float32)
    return values if node.attributes.get_int("transB", 0) else np.ascontiguousarray(values.T)


def mark_blocks(node: ir.Node, weight: BlockWeight) -> None:
    """Let ``node`` read its weight from these blocks when it is written to a file."""
    node.meta[MARK] = weight


def block_weight(node: ir.Node) -> BlockWeight | None:
    """What :func:`mark_blocks` set; None where the weight stays what it is."""
    weight: BlockWeight | None = node.meta.get(MARK)
    return weight


def round_block(values: Floats, bits: int, importance: Floats) -> tuple[Floats, Floats]:
    """Scale and zero point of blocks, with the range clipped where that lowers the error.

    Args:
        values: (N, BLOCK), a block of each row.
        bits: width of the codes.
        importance: (BLOCK,), what an error of each input costs: the mean square of that input.

    Returns:
        scale and zero point, both float64 (N,); the zero point is an integer.
    """
    largest = float(2**bits - 1)
    low, high = np.minimum(values.min(axis=1), 0.0), np.maximum(values.max(axis=1), 0.0)
    best, scale, zero = np.full(len(values), np.inf), np.ones(len(values)), np.zeros(len(values))
    for part in SHRINKING:
        step = np.maximum((high - low) * part / largest, np.finfo(np.float32).tiny)
        offset = np.clip(np.rint(-low * part / step), 0.0, largest)
        codes = np.clip(np.rint(values / step[:, None] + offset[:, None]), 0.0, largest)
        error = (np.square((codes - offset[:, None]) * step[:, None] - values) * importance).sum(axis=1)
        better = error < best
        best, scale, zero = (np.where(better, *pair) for pair in ((error, best), (step, scale), (offset, zero)))
    return scale, zero
