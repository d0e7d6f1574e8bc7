"""Bias correction where the twin takes one sample at a time, since the graph fixes its batch."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfq_deploy.encodings import Encoding, channel_shape
from dfq_deploy.errors import is_out_of_memory
from dfq_deploy.graph.inputs import ExtraInputs, feeds_for, main_input_value
from dfq_deploy.graph.passes.own_biases import CHANNEL_AXIS
from dfq_deploy.quantization.fake_quant import fake_quantizers
from dfq_deploy.twin import GroupHook, Hook, Twin
from dfq_deploy.twin.teacher import same_rows

__all__ = ["Runs", "axes_of", "fixed_batch", "parts_of", "shifts_one_by_one", "takes_batches", "tensors"]

Feeds = dict[str, Tensor]

MOST_PARTS = 64
"""Runs of the twin; the mean of more of them hardly moves."""


def tensors(model: ir.Model, images: NDArray[np.float32], extra: ExtraInputs, device: str) -> Feeds:
    """One batch by input, for the twin."""
    fed = feeds_for(model, images, extra)
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in fed.items()}


def fixed_batch(model: ir.Model) -> int | None:
    """The batch, where the model fixes it."""
    main = main_input_value(model)
    batch = main.shape[0] if main.shape is not None and len(main.shape) else None
    return batch if isinstance(batch, int) else None


class Runs(Protocol):
    """Runs the model, its batch opened as far as it goes: the twin, or ONNX Runtime."""

    output_names: tuple[str, ...]

    def run(self, feeds: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The outputs by name."""
        ...


def takes_batches(model: ir.Model, opened: Runs, feeds: Feeds) -> bool:
    """False where the graph fixes the batch in a way that could not be opened: it fails, or mixes the samples."""
    batch, main = fixed_batch(model), str(main_input_value(model).name)
    if batch is None or len(feeds[main]) <= batch:
        return True
    rows = len(feeds[main])
    starts = [slice(start, start + batch) for start in (0, batch) if start + batch <= rows]
    parts = [{name: x[part] if len(x) == rows else x for name, x in feeds.items()} for part in starts]
    whole = {name: x[: batch * len(parts)] if len(x) == rows else x for name, x in feeds.items()}
    try:
        together, alone = opened.run(whole), [opened.run(part) for part in parts]
    except (RuntimeError, ValueError, IndexError) as problem:
        if is_out_of_memory(problem):  # says nothing of the graph
            raise
        return False
    return all(same_rows(together[name], [part[name] for part in alone]) for name in opened.output_names)


def parts_of(model: ir.Model, images: NDArray[np.float32], extra: ExtraInputs, device: str) -> list[Feeds]:
    """The samples in feeds of the model's own batch, at most :data:`MOST_PARTS`."""
    batch = fixed_batch(model) or 1
    count = max(1, min(len(images) // batch, MOST_PARTS))
    parts = [slice(batch * index, batch * (index + 1)) for index in range(count)]
    return [tensors(model, images[part], {n: rows[part] for n, rows in extra.items()}, device) for part in parts]


def shifts_one_by_one(
    twin: Twin, parts: Sequence[Feeds], corrected: Mapping[str, ir.Node], encodings: Mapping[str, Encoding], device: str
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The shifts, where the twin takes one sample at a time: the samples are run in step, node by node.

    Returns:
        the shift of each channel by the name of the output; and the largest one in standard deviations.
    """
    wanted: dict[str, tuple[Tensor, Tensor]] = {}
    twin.run_in_step(parts, {name: _recording(name, node, wanted) for name, node in corrected.items()})
    shifts: dict[str, Tensor] = {}
    quantizers = fake_quantizers(encodings, device)
    hooks = {name: _of_each(quantizer) for name, quantizer in quantizers.items()}
    for name, node in corrected.items():
        hooks[name] = _correcting(name, node, wanted, shifts, hooks.get(name))
    twin.run_in_step(parts, hooks)
    return shifts, {name: float((shift.abs() / wanted[name][1]).max()) for name, shift in shifts.items()}


def _recording(name: str, node: ir.Node, moments: dict[str, tuple[Tensor, Tensor]]) -> GroupHook:
    """Takes note of mean and standard deviation of each channel, over all runs."""

    def record(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        axes, _ = axes_of(node, tensors[0].ndim)
        mean = torch.stack([values.mean(axes) for values in tensors]).mean(0)
        square = torch.stack([values.square().mean(axes) for values in tensors]).mean(0)
        moments[name] = mean, (square - mean.square()).clamp_min(1e-24).sqrt()
        return tensors

    return record


def _correcting(
    name: str,
    node: ir.Node,
    wanted: Mapping[str, tuple[Tensor, Tensor]],
    shifts: dict[str, Tensor],
    then: GroupHook | None,
) -> GroupHook:
    def correct(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        axes, shape = axes_of(node, tensors[0].ndim)
        shifts[name] = wanted[name][0] - torch.stack([values.mean(axes) for values in tensors]).mean(0)
        shifted = [values + shifts[name].reshape(shape) for values in tensors]
        return shifted if then is None else then(shifted)

    return correct


def _of_each(hook: Hook) -> GroupHook:
    return lambda tensors: [hook(values) for values in tensors]


def axes_of(node: ir.Node, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes to average over, and the shape in which a (channels,) vector is added."""
    channel = CHANNEL_AXIS[node.op_type] % ndim
    return tuple(axis for axis in range(ndim) if axis != channel), channel_shape(ndim, channel)
