"""Round weights in blocks; later inputs make up for the errors of earlier ones (GPTQ).

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (ICLR 2023),
section 3, with the samples of a calibration in place of text. Where a layer has too many inputs for a matrix of their
products, and at 8 bits, each weight is rounded by itself.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from dfq_deploy.errors import OptionError
from dfq_deploy.graph.query import name_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.encode import Prepared
from dfq_deploy.quantization.weight_blocks import (
    BLOCK,
    WIDTHS,
    BlockWeight,
    fits_blocks,
    mark_blocks,
    matrix_of,
    round_block,
)
from dfq_deploy.runtime.activations import activations as activations_of
from dfq_deploy.samples.batches import SampleBatches
from dfq_deploy.samples.samples import Samples

__all__ = ["in_blocks", "store_in_blocks"]

logger = logging.getLogger(__name__)

Doubles = NDArray[np.float64]

DAMPING = 0.01
"""Part of the mean diagonal that is added to the diagonal, as in the paper: products of few inputs have no inverse."""

MOST_INPUTS = 8192
"""Inputs up to which the matrix of their products (8 bytes each) is made."""

TOGETHER = 2**27
"""Values of these matrices that are in memory at a time: 1 GB."""


def store_in_blocks(prepared: Prepared, samples: Samples, progress: Progress = SILENT) -> int:
    """Mark the large matrices of ``prepared.model``, in place, so that they are written in blocks.

    Returns:
        the number of layers.

    Raises:
        OptionError: the model has none, or the width is not one that runtimes have.
    """
    bits = prepared.bits.weights
    if bits not in WIDTHS:
        raise OptionError(f"bits: weights of {bits} bits are not stored in blocks; give --bits w4a8 or w8a8")
    nodes = [node for node in prepared.model.graph if fits_blocks(node, prepared.target)]
    if not nodes:
        raise OptionError(
            "activations: 'float' quantizes the weights of large MatMul and Gemm alone, and the model has none; choose "
            "auto"
        )
    marked: dict[tuple[str, int], BlockWeight] = {}
    for group in _groups(nodes):
        products = _products(prepared.model, group, samples, progress) if bits < 8 else {}
        for node in group:
            key = name_of(node.inputs[1]), node.attributes.get_int("transB", 0)
            if key not in marked:
                marked[key] = in_blocks(matrix_of(node), bits, products.get(name_of(node.inputs[0])))
            mark_blocks(node, marked[key])
    logger.info("%d layers store their weights in blocks of %d with %d bits", len(nodes), BLOCK, bits)
    return len(nodes)


def _groups(nodes: Sequence[ir.Node]) -> Iterator[list[ir.Node]]:
    """The nodes in order, so many at a time as the matrices of their inputs fit into memory."""
    group: list[ir.Node] = []
    inputs: dict[str, int] = {}
    for node in nodes:
        name, size = name_of(node.inputs[0]), matrix_of(node).shape[1] ** 2
        if group and name not in inputs and sum(inputs.values()) + size > TOGETHER:
            yield group
            group, inputs = [], {}
        group.append(node)
        inputs[name] = size
    yield group


def _products(model: ir.Model, nodes: Sequence[ir.Node], samples: Samples, progress: Progress) -> dict[str, Doubles]:
    """Input -> the mean product of each two of its columns, (K, K)."""
    sizes = {name_of(node.inputs[0]): matrix_of(node).shape[1] for node in nodes}
    found = {name: np.zeros((size, size)) for name, size in sizes.items() if size <= MOST_INPUTS}
    counts = dict.fromkeys(found, 0)
    if not found:
        return {}
    with closing(activations_of(model, list(found), SampleBatches(model, samples), progress)) as slices:
        for arrays in slices:
            for name, array in arrays.items():
                rows = array.reshape(-1, array.shape[-1]).astype(np.float32)
                found[name] += rows.T @ rows
                counts[name] += len(rows)
    return {name: total / max(1, counts[name]) for name, total in found.items()}


def in_blocks(matrix: NDArray[np.float32], bits: int, products: Doubles | None = None) -> BlockWeight:
    """Round a matrix to blocks.

    Args:
        matrix: (N, K).
        products: (K, K), the mean product of each two inputs; None rounds each weight to its nearest code.
    """
    rows, inputs = matrix.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((rows, blocks * BLOCK))
    padded[:, :inputs] = matrix
    weights = torch.from_numpy(padded)
    factors, importance = _compensation(products, blocks * BLOCK)
    codes = np.empty((rows, blocks, BLOCK), np.uint8)
    scales, zeros = np.empty((rows, blocks), np.float32), np.empty((rows, blocks), np.uint8)
    for block in range(blocks):
        first = block * BLOCK
        part = weights[:, first : first + BLOCK]
        scale, zero = round_block(part.numpy(), bits, importance[first : first + BLOCK])
        scales[:, block], zeros[:, block] = scale, zero
        step, offset = torch.from_numpy(scales[:, block].astype(np.float64)), torch.from_numpy(zero)
        errors = torch.zeros_like(part)
        for column in range(BLOCK):
            values = weights[:, first + column]
            code = (values / step + offset).round().clamp(0, 2**bits - 1)
            codes[:, block, column] = code.numpy()
            if factors is not None:
                own = factors[first + column, first : first + BLOCK]
                errors[:, column] = (values - (code - offset) * step) / own[column]
                part[:, column + 1 :] -= errors[:, column, None] * own[column + 1 :]
        if factors is not None:
            weights[:, first + BLOCK :] -= errors @ factors[first : first + BLOCK, first + BLOCK :]
    codes.reshape(rows, -1)[:, inputs:] = np.repeat(zeros[:, -1:], blocks * BLOCK - inputs, axis=1)
    return BlockWeight(codes, scales, zeros, inputs, bits)


def _compensation(products: Doubles | None, size: int) -> tuple[torch.Tensor | None, Doubles]:
    """The upper Cholesky factor of the inverse of ``products``, filled up to ``size``, and what each input counts."""
    if products is None or not products.any():
        return None, np.ones(size)
    inputs = len(products)
    whole = np.eye(size) * np.diag(products).mean()
    whole[:inputs, :inputs] = products
    # An input that is always zero cannot make up for anything, and nothing has to be made up for.
    silent = np.diag(whole) == 0
    whole[silent, silent] = 1.0
    importance = np.diag(whole).copy()
    whole[np.diag_indices(size)] += DAMPING * importance.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(torch.from_numpy(whole)))
    return torch.linalg.cholesky(inverse, upper=True), importance
