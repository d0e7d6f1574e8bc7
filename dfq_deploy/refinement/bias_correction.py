"""Bias correction: remove the mean shift of each channel.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction" (arXiv 1906.04721), section
4.2, in its empirical form, on samples instead of real images. Each shift is measured with all earlier corrections
applied, in one run of the student.
"""

import logging
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.inputs import ExtraInputs
from dfq_deploy.graph.passes.open_batch import open_batch
from dfq_deploy.graph.passes.own_biases import give_own_biases
from dfq_deploy.graph.query import constant_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.fake_quant import fake_quantizers
from dfq_deploy.refinement.one_by_one import axes_of, fixed_batch, parts_of, shifts_one_by_one, takes_batches, tensors
from dfq_deploy.runtime.plugin_nodes import behind_plugins, plugin_nodes, runnable_part
from dfq_deploy.twin import Hook, Twin

__all__ = ["correct_biases"]

logger = logging.getLogger(__name__)

MEMORY = 2**31
"""Memory of one run in bytes, assuming that the features of a layer are up to 64 times as large as the image."""


@torch.no_grad()
def correct_biases(
    model: ir.Model,
    encodings: Mapping[str, Encoding],
    images: NDArray[np.float32],
    *,
    extra: ExtraInputs | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> dict[str, float]:
    """Correct the biases of ``model``, in place, by the shift of their channel means under quantization.

    Convolutions without a bias get one.

    Args:
        model: with BatchNormalization folded.
        encodings: of activations and weights, by tensor name.
        images: float32 (N, C, H, W); as many as fit into memory are run in one batch.
        extra: the other inputs of the model, (N, ...) each.
        device: a torch device.

    Returns:
        for each corrected output tensor, the largest shift in units of that tensor's standard deviation.
    """
    behind = behind_plugins(model)
    corrected = {name: node for name, node in give_own_biases(model).items() if node not in behind}
    count = max(1, MEMORY // (images[0].nbytes * 64))
    extra_inputs = {name: array[:count] for name, array in (extra or {}).items()}
    progress.start("bias correction", 2)
    twin = Twin.from_model(_with_open_batch(model)).to(device)
    feeds = tensors(model, images[:count], extra_inputs, device)
    if not takes_batches(model, twin, feeds, device):
        parts = parts_of(model, images[:count], extra_inputs, device)
        one_by_one_shifts, largest_shifts = shifts_one_by_one(twin, parts, corrected, encodings, device)
        _shift(corrected, one_by_one_shifts)
        progress.advance(2)
        return largest_shifts
    statistics: dict[str, tuple[Tensor, Tensor]] = {}
    feeds = {name: _in_fast_layout(tensor) for name, tensor in feeds.items()}
    twin.run(feeds, hooks={name: _recording(name, node, statistics) for name, node in corrected.items()})
    progress.advance()
    shifts: dict[str, Tensor] = {}
    hooks = fake_quantizers(encodings, device)
    for name, node in corrected.items():
        hooks[name] = _correcting(name, node, statistics, shifts, hooks.get(name))
    twin.run(feeds, hooks=hooks)
    progress.advance()
    _shift(corrected, shifts)
    largest = {name: float((shift.abs() / statistics[name][1]).max()) for name, shift in shifts.items()}
    for name, shift in largest.items():
        logger.debug("bias correction: %s shifted by up to %.3g standard deviations", name, shift)
    return largest


def _in_fast_layout(tensor: Tensor) -> Tensor:
    """Channels-last for pictures: convolutions then make no copies in a layout of their own."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _shift(corrected: Mapping[str, ir.Node], shifts: Mapping[str, Tensor]) -> None:
    """Add the shifts to the biases of the nodes, in place."""
    for name, node in corrected.items():
        bias = node.inputs[2]
        assert bias is not None
        tensor = constant_of(bias)
        assert tensor is not None
        values = tensor.numpy()
        bias.const_value = ir.tensor((values + shifts[name].cpu().numpy()).astype(values.dtype), name=bias.name)


def _with_open_batch(model: ir.Model) -> ir.Model:
    """Return ``model``; if its batch is fixed, a copy with a dynamic batch, as far as the graph permits."""
    model = runnable_part(model) if plugin_nodes(model) else model
    batch = fixed_batch(model)
    if batch is None:
        return model
    copy = model.clone()
    open_batch(copy, batch)
    return copy


def _recording(name: str, node: ir.Node, statistics: dict[str, tuple[Tensor, Tensor]]) -> Hook:
    def record(values: Tensor) -> Tensor:
        axes, _ = axes_of(node, values.ndim)
        var, mean = torch.var_mean(values, axes, correction=0)
        statistics[name] = (mean, var.sqrt().clamp_min(1e-12))
        return values

    return record


def _correcting(
    name: str,
    node: ir.Node,
    statistics: Mapping[str, tuple[Tensor, Tensor]],
    shifts: dict[str, Tensor],
    next_hook: Hook | None,
) -> Hook:
    def correct(values: Tensor) -> Tensor:
        axes, shape = axes_of(node, values.ndim)
        shifts[name] = statistics[name][0] - values.mean(axes)
        values.add_(shifts[name].reshape(shape))  # what a layer has just computed is read by nothing else yet
        return values if next_hook is None else next_hook(values)

    return correct
