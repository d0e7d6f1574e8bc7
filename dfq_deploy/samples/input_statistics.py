"""Estimate mean and deviation of the training inputs from the first BatchNormalization."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.query import batch_normalizations, constant_of
from dfq_deploy.samples.batches import tensors_of_known_range

__all__ = ["InputStatistics", "input_statistics"]

Floats = NDArray[np.float64]

NEIGHBOR_CORRELATION = 0.95
"""Of two neighboring pixels of a photograph; it falls off exponentially with their distance (Field 1987)."""

COLOR_CORRELATION = 0.9
"""Of two colors of one pixel."""

DEAD = 1e-3
"""A channel whose deviation is a smaller part of the largest one says nothing."""

ROWS_PER_CHANNEL = 2
"""So many living output channels are needed for each input channel."""

ALIKE = 0.1
"""Weight of one mean for all channels, beside the statistics: it decides where the kernels take the channels for one.

With 0.05 to 0.3 the means of the networks of the zoo move by less than 0.02 deviations.
"""

UNEXPLAINED, SCATTERED = 0.1, 0.5
"""Statistics that an input explains worse are not those of pictures: of random weights, say."""


@dataclass(frozen=True)
class InputStatistics:
    """What the training inputs of a network looked like, in the units of its input.

    Args:
        mean: of each channel (C,).
        std: of a value about that mean, over all channels.
    """

    mean: tuple[float, ...]
    std: float


def input_statistics(model: ir.Model) -> InputStatistics | None:
    """Estimate the input statistics of ``model``, without data; None where no BatchNormalization tells them.

    A convolution is linear. With ``W`` summed over the kernel, its mean output is ``W m`` for a stationary input of
    mean ``m``, and the running mean of the BatchNormalization behind it is that output: least squares give ``m``. The
    running variance is ``s^2 w'Cw`` for an input of deviation ``s`` whose values correlate as ``C``, which is known
    well enough for photographs. Zeros that are padded pull the mean towards 0, by some percent in small pictures.
    """
    for node in batch_normalizations(model):
        found = _of_layer(model, node)
        if found is not None:
            return found
    return None


def _of_layer(model: ir.Model, node: ir.Node) -> InputStatistics | None:
    """From one BatchNormalization, where it stands behind a convolution of the main input."""
    conv = node.inputs[0].producer() if node.inputs[0] is not None else None
    if conv is None or conv.op_type != "Conv" or conv.attributes.get_int("group", 1) != 1:
        return None
    source, weight = conv.inputs[0], constant_of(conv.inputs[1])
    running_mean, running_var = constant_of(node.inputs[3]), constant_of(node.inputs[4])
    if source is None or source.name not in tensors_of_known_range(model):
        return None
    if weight is None or running_mean is None or running_var is None or len(weight.shape) != 4:
        return None
    bias = constant_of(conv.inputs[2]) if len(conv.inputs) > 2 else None
    mean = running_mean.numpy().astype(np.float64)
    mean = mean if bias is None else mean - bias.numpy()
    std = np.sqrt(running_var.numpy().astype(np.float64))
    kernels = weight.numpy().astype(np.float64)
    alive = (std > DEAD * std.max()) & (np.abs(kernels).max(axis=(1, 2, 3)) > 0)
    if alive.sum() < ROWS_PER_CHANNEL * kernels.shape[1]:
        return None
    return _solved(kernels[alive], mean[alive], std[alive])


def _solved(kernels: Floats, mean: Floats, std: Floats) -> InputStatistics | None:
    """Statistics of the input from kernels (O, C, H, W) and those of their outputs (O,); None where none explain them.

    Those of trained networks are explained well: what is left of the means is 0.001 to 0.03 of the deviations in the
    zoo and the digits example, and the deviations scatter by 0.1 to 0.3 of their logarithm.
    """
    flat = kernels.reshape(len(kernels), -1)
    unit = np.einsum("oi,ij,oj->o", flat, _correlation(*kernels.shape[1:]), flat)
    stretch = std / np.sqrt(unit)
    sums, channels = kernels.sum(axis=(2, 3)) / std[:, None], kernels.shape[1]
    alike = ALIKE * np.sqrt(len(sums)) / np.median(stretch) * (np.eye(channels) - 1 / channels)
    rows, wanted = np.concatenate([sums, alike]), np.concatenate([mean / std, np.zeros(channels)])
    means = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    left = float(np.sqrt(np.square(sums @ means - mean / std).mean()))
    if left > UNEXPLAINED or np.log(stretch).std() > SCATTERED:
        return None
    return InputStatistics(tuple(float(value) for value in means), float(np.median(stretch)))


def _correlation(channels: int, height: int, width: int) -> Floats:
    """Correlation of the values that one kernel sees, (C * H * W,) squared."""
    rows, columns = np.mgrid[:height, :width].reshape(2, -1)
    distance = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
    colors = np.full((channels, channels), COLOR_CORRELATION)
    np.fill_diagonal(colors, 1)
    return np.asarray(np.kron(colors, NEIGHBOR_CORRELATION**distance), np.float64)
