"""Bias correction: remove the mean shift of each channel.

Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction" (arXiv 1906.04721), section
4.2, in its empirical form, on samples instead of real images. Each shift is measured with all earlier corrections
applied, in one run of the student: in ONNX Runtime on the CPU, which takes a tenth of the twin's time, else in the
twin. Samples that do not fit into :data:`MEMORY` are run in parts: the shift is the mean over the parts, and each part
is corrected by the mean up to itself.
"""

import logging
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import is_out_of_memory
from dfq_deploy.files.arrays import selected
from dfq_deploy.graph.inputs import ExtraInputs
from dfq_deploy.graph.passes.open_batch import open_batch
from dfq_deploy.graph.passes.own_biases import give_own_biases
from dfq_deploy.graph.query import constant_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.fake_quant import fake_quantizers
from dfq_deploy.refinement.one_by_one import axes_of, fixed_batch, parts_of, shifts_one_by_one, takes_batches, tensors
from dfq_deploy.refinement.runtime_shifts import InRuntime, RuntimeShifts, is_simulated
from dfq_deploy.runtime.plugin_nodes import behind_plugins, plugin_nodes, runnable_part
from dfq_deploy.runtime.session import RUNTIME_ERRORS
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.validation.budget import allowance

__all__ = ["correct_biases"]

logger = logging.getLogger(__name__)

MEMORY = 2**25
"""Memory of one run in bytes, assuming that the features of a layer are up to 64 times as large as the image."""

IN_STEP = 2**31
"""The same for all samples together, where the twin takes one at a time and all of them are run in step."""

SMALLEST_PART = 8
"""Samples of one run, however large they are: the means of fewer say little of the batch."""


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
        images: float32 (N, C, H, W), run in parts that fit into memory.
        extra: the other inputs of the model, (N, ...) each.
        device: a torch device.

    Returns:
        for each corrected output tensor, the largest shift in units of that tensor's standard deviation.
    """
    behind = behind_plugins(model)
    corrected = {name: node for name, node in give_own_biases(model).items() if node not in behind}
    count = max(SMALLEST_PART, allowance(MEMORY) // (images[0].nbytes * 64))
    parts = [slice(start, start + count) for start in range(0, len(images), count)]
    opened = _with_open_batch(model)
    progress.start("bias correction", 2 * len(parts))
    first = _feeds(model, images, extra, parts[0], device)
    if device == "cpu" and corrected and is_simulated(encodings):
        try:
            if _runtime_takes_batches(model, opened, first):
                runs = RuntimeShifts(opened, tuple(corrected), encodings)
                for part in parts:
                    feeds = {name: value.numpy() for name, value in _feeds(model, images, extra, part, device).items()}
                    runs.add(feeds, len(images[part]))
                    progress.advance(2)
                _shift(corrected, runs.shift)
                return _noted(runs.largest())
        except (RuntimeError, *RUNTIME_ERRORS) as problem:
            if is_out_of_memory(problem):
                raise
            logger.info("bias correction: the twin is run, since ONNX Runtime fails: %s", problem)
            progress.start("bias correction", 2 * len(parts))
    twin = Twin.from_model(opened).to(device)
    if not takes_batches(model, twin, first):
        most = slice(max(1, allowance(IN_STEP) // (images[0].nbytes * 64)))
        rows = {name: array[most] for name, array in (extra or {}).items()}
        in_step = parts_of(model, images[most], rows, device)
        one_by_one_shifts, largest_shifts = shifts_one_by_one(twin, in_step, corrected, encodings, device)
        _shift(corrected, {name: shift.cpu().numpy() for name, shift in one_by_one_shifts.items()})
        progress.advance(2 * len(parts))
        return _noted(largest_shifts)
    moments = {name: _Moments(node) for name, node in corrected.items()}
    quantizers = fake_quantizers(encodings, device)
    correcting = {name: moments[name].correcting(quantizers.get(name)) for name in corrected}
    for part in parts:
        fed = {name: _in_fast_layout(tensor) for name, tensor in _feeds(model, images, extra, part, device).items()}
        twin.run(fed, hooks={name: moments[name].record for name in corrected})
        progress.advance()
        twin.run(fed, hooks={**quantizers, **correcting})
        progress.advance()
    _shift(corrected, {name: found.shift.cpu().numpy() for name, found in moments.items()})
    return _noted({name: float((found.shift.abs() / found.deviation).max()) for name, found in moments.items()})


def _noted(largest: dict[str, float]) -> dict[str, float]:
    for name, shift in largest.items():
        logger.debug("bias correction: %s shifted by up to %.3g standard deviations", name, shift)
    return largest


def _runtime_takes_batches(model: ir.Model, opened: ir.Model, feeds: dict[str, Tensor]) -> bool:
    """True where the ``opened`` model runs in ONNX Runtime on as many samples as ``feeds`` holds."""
    return fixed_batch(model) is None or takes_batches(model, InRuntime(opened), feeds)


def _feeds(
    model: ir.Model, images: NDArray[np.float32], extra: ExtraInputs | None, part: slice, device: str
) -> dict[str, Tensor]:
    rows = {name: selected(array, part) for name, array in (extra or {}).items()}
    return tensors(model, selected(images, part), rows, device)


def _in_fast_layout(tensor: Tensor) -> Tensor:
    """Channels-last for pictures: convolutions then make no copies in a layout of their own."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _shift(corrected: Mapping[str, ir.Node], shifts: Mapping[str, NDArray[np.float32]]) -> None:
    """Add the shifts to the biases of the nodes, in place."""
    for name, node in corrected.items():
        bias = node.inputs[2]
        assert bias is not None
        tensor = constant_of(bias)
        assert tensor is not None
        values = tensor.numpy()
        bias.const_value = ir.tensor((values + shifts[name]).astype(values.dtype), name=bias.name)


def _with_open_batch(model: ir.Model) -> ir.Model:
    """Return ``model``; if its batch is fixed, a copy with a dynamic batch, as far as the graph permits."""
    model = runnable_part(model) if plugin_nodes(model) else model
    batch = fixed_batch(model)
    if batch is None:
        return model
    copy = model.clone()
    open_batch(copy, batch)
    return copy


class _Moments:
    """Mean, mean square and shift of the channels of one tensor, over the parts so far.

    Args:
        node: the layer that computes it.
    """

    def __init__(self, node: ir.Node) -> None:
        self.node = node
        self.rows = 0
        self.mean = self.square = self.shift = torch.zeros(1)
        self._part: tuple[int, Tensor] = (0, torch.zeros(1))

    def record(self, values: Tensor) -> Tensor:
        """A hook that takes note of the values of the float network."""
        axes, _ = axes_of(self.node, values.ndim)
        mean = values.mean(axes)
        self.rows += len(values)
        share = len(values) / self.rows
        self.mean = torch.lerp(self.mean.to(mean), mean, share)
        square = values.square().mean(axes)
        self.square = torch.lerp(self.square.to(mean), square, share)
        self._part = (len(values), mean)
        return values

    def correcting(self, next_hook: Hook | None) -> Hook:
        """A hook that shifts the values of the quantized network by the mean shift so far."""

        def correct(values: Tensor) -> Tensor:
            axes, shape = axes_of(self.node, values.ndim)
            rows, mean = self._part
            self.shift = torch.lerp(self.shift.to(mean), mean - values.mean(axes), rows / self.rows)
            values.add_(self.shift.reshape(shape))  # what a layer has just computed is read by nothing else yet
            return values if next_hook is None else next_hook(values)

        return correct

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each channel."""
        return (self.square - self.mean.square()).clamp_min(1e-24).sqrt()
