"""Round weights in closed form, layer by layer: ridge regression, then GPTQ.

Each layer first gets the weights that reproduce its float output from the input that the quantized layers before it
leave (Zhong et al., "ERQ", ICML 2024, arXiv 2407.06794, section 4.1: a ridge regression). They are then rounded one
input after another, the largest first, and the inputs that follow make up for each error (Frantar et al., "GPTQ", ICLR
2023, section 3). The bias keeps the mean of each channel. Nothing is learned by descent, and no gradient is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.progress import Progress
from dfq_deploy.refinement.block_learner import BlockLearner
from dfq_deploy.refinement.block_values import release_all
from dfq_deploy.refinement.blocks import Block
from dfq_deploy.refinement.closed_form.layer_matrix import LayerMatrix
from dfq_deploy.refinement.closed_form.rounding import CompensatedRounding
from dfq_deploy.twin import Hook, Step, Twin

__all__ = ["ClosedForm", "Moments", "solved"]

RIDGE = 0.1
"""Pull towards the float weights, as a part of the mean square of an input, where there are :data:`ROWS` positions for
each input. It grows as these get fewer: behind global pooling a sample has one."""

DAMPING = 0.01
"""Part of the mean diagonal that is added to the diagonal before it is inverted, as in GPTQ; it grows likewise."""

FACTORS = (0.75, 0.8, 0.85, 0.9, 0.95, 1.05)
"""Multiples of a row's scale that are tried."""

MOST_INPUTS = 8192
"""Inputs of a layer up to which the matrix of their products is made; the weights of larger layers are rounded to the
nearest."""

ROWS = 32
"""Positions for each input of a layer whose products are taken, chosen at random; fewer say little, more take time."""

MORE, FEWEST = 4, 32
"""So many times the positions are computed, but on this many samples at least: neighbours are alike."""


@dataclass
class Moments:
    """Sums over positions, of a layer's input in the float network x and in the quantized one q; G groups of D inputs.

    Args:
        own: of q q^T, (G, D, D).
        cross: of x q^T, (G, D, D).
        exact, quantized: of x and of q, (G, D).
        count: of positions.
    """

    own: Tensor
    cross: Tensor
    exact: Tensor
    quantized: Tensor
    count: int = 0

    @classmethod
    def zeros(cls, groups: int, inputs: int) -> "Moments":
        """Of no positions."""
        square, line = (groups, inputs, inputs), (groups, inputs)
        own, cross, exact, quantized = (torch.zeros(size, dtype=torch.float64) for size in (square, square, line, line))
        return cls(own, cross, exact, quantized)

    def add(self, exact: Tensor, quantized: Tensor) -> None:
        """Add positions, (G, P, D) each."""
        self.own += (quantized.transpose(1, 2) @ quantized).cpu()
        self.cross += (exact.transpose(1, 2) @ quantized).cpu()
        self.exact += exact.sum(1).cpu()
        self.quantized += quantized.sum(1).cpu()
        self.count += exact.shape[1]


class ClosedForm(BlockLearner):
    """Solves the layers of each block one after another; the scales of activations stay as they were measured."""

    title = "closed form"

    def effort(self, block: Block) -> int:
        """Steps of the progress bar that a block takes."""
        return len(block.weights)

    def _descend(
        self,
        block_twin: Twin,
        block: Block,
        data: tuple[Tensor, Tensor, Tensor],
        initial_error: float,
        progress: Progress,
    ) -> None:
        exact, quantized, _ = data
        nodes = {node.outputs[0].name: node for node in self.model.graph if node.outputs}
        biases = {step.outputs[0]: name for name, step in self._layers(block).items()}
        for step in block.steps:
            weight = step.inputs[1] if len(step.inputs) > 1 else ""
            layer = LayerMatrix.of(nodes[step.outputs[0]]) if self._is_solved(weight, block) else None
            if layer is not None and layer.inputs <= MOST_INPUTS:
                moments = self._moments(block_twin, block, step, layer, (exact, quantized))
                self._solve(step, layer, moments, biases.get(step.outputs[0]))
        progress.advance(len(block.weights))

    def _is_solved(self, weight: str, block: Block) -> bool:
        """Whether the weight is quantized to integers (the grid of FP8 has no single step), and one layer reads it."""
        integers = weight in block.weights and not self.encodings[weight].qtype.floating
        return integers and len(self.model.graph.initializers[weight].uses()) == 1

    @torch.no_grad()
    def _solve(self, step: Step, layer: LayerMatrix, moments: Moments, bias: str | None) -> None:
        initializers, name = self.model.graph.initializers, step.inputs[1]
        weight = layer.matrix(self._initializer(name).cpu())
        found, shift, self.encodings[name] = solved(weight, moments, self.encodings[name], centred=bias is not None)
        initializers[name].const_value = ir.tensor(layer.weight(found).contiguous().numpy(), name=name)
        if bias is not None:
            values = self._initializer(bias).cpu() + shift
            initializers[bias].const_value = ir.tensor(values.numpy(), name=bias)

    @torch.no_grad()
    def _moments(
        self, block_twin: Twin, block: Block, step: Step, layer: LayerMatrix, inputs: tuple[Tensor, Tensor]
    ) -> Moments:
        """The moments of the inputs of ``step`` at random positions of some samples."""
        moments, wanted = Moments.zeros(layer.groups, layer.inputs), ROWS * layer.inputs
        hooks: tuple[Mapping[str, Hook], ...] = ({}, self._fixed(block_twin, block))

        def positions(chosen: Tensor) -> list[Tensor]:
            sides = zip(inputs, hooks, strict=True)
            return [
                layer.positions(step, self._read(block_twin, block, step, side[chosen], own)) for side, own in sides
            ]

        of_one = positions(torch.arange(1))[0].shape[1]
        count = min(len(inputs[0]), max(FEWEST, MORE * wanted // of_one))
        samples = torch.randperm(len(inputs[0]), generator=self.generator)[:count].sort().values
        for chosen in torch.split(samples, self.settings.batch):
            rows = positions(chosen)
            here = rows[0].shape[1]
            few = torch.randperm(here, generator=self.generator)[: max(1, wanted * len(chosen) // count)]
            moments.add(*(values[:, few.to(self.device)] for values in rows))
            release_all(*inputs)
        return moments

    def _read(self, block_twin: Twin, block: Block, step: Step, values: Tensor, hooks: Mapping[str, Hook]) -> Tensor:
        """What the first input of ``step`` is for an input of the block."""
        name, given = step.inputs[0], values.to(self.device)
        return given if name == block.input else block_twin.run({block.input: given}, keep=[name], hooks=hooks)[name]


def solved(weight: Tensor, moments: Moments, encoding: Encoding, *, centred: bool) -> tuple[Tensor, Tensor, Encoding]:
    """Round a weight so that the layer's output stays.

    Args:
        weight: (G, N, D), float.
        encoding: with one scale for each of the G * N rows, or for all.
        centred: a bias makes up for the means, which then do not count.

    Returns:
        the weight, in multiples of the step; the shift of the bias (G * N,) that keeps the mean of each channel; the
        encoding, whose scales for single rows are the best of :data:`FACTORS` times those that were given.
    """
    groups, outputs, _ = weight.shape
    count = max(1, moments.count)
    own, cross = moments.own / count, moments.cross / count
    exact, quantized = moments.exact / count, moments.quantized / count
    if centred:
        own = own - quantized[:, :, None] * quantized[:, None]
        cross = cross - exact[:, :, None] * quantized[:, None]
    mean = own.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)[:, None, None]
    unit = torch.eye(own.shape[1], dtype=own.dtype) * max(1.0, ROWS * own.shape[1] / count)
    ridge = RIDGE * mean * unit
    # W' (q q^T + r) = W (x q^T + r): the solution of least squares, pulled towards W.
    wanted = torch.linalg.solve(own + ridge, weight.double() @ (cross + ridge), left=False)
    rounding = CompensatedRounding(wanted, own + DAMPING * mean * unit, (encoding.qtype.qmin, encoding.qtype.qmax))
    first, zero = (
        torch.from_numpy(np.broadcast_to(part, (groups * outputs,)).astype(np.float32)).reshape(groups, outputs)
        for part in (encoding.scale, encoding.zero_point)
    )
    step, found = first, rounding.rounded(first, zero)
    for factor in FACTORS if encoding.axis is not None else ():
        other = rounding.rounded(factor * first, zero)
        better = rounding.error(other) < rounding.error(found)
        step = torch.where(better, factor * first, step)
        found = torch.where(better[..., None], other, found)
    shift = torch.einsum("gnd,gd->gn", weight.double(), exact) - torch.einsum("gnd,gd->gn", found, quantized)
    scale = step.reshape(encoding.scale.shape).numpy() if encoding.axis is not None else encoding.scale
    return found.float(), shift.reshape(-1).float(), replace(encoding, scale=scale)
