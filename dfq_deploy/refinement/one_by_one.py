"""Bias correction where the twin takes one sample at a time, since the graph fixes its batch."""

from collections.abc import Mapping, Sequence

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
from dfq_deploy.twin import Hook, Twin
from dfq_deploy.twin.teacher import same_rows

__all__ = ["axes_of", "fixed_batch", "parts_of", "shifts_one_by_one", "takes_batches", "tensors"]

Feeds = dict[str, Tensor]

RUNS, LEAST_PARTS = 512, 8
"""Runs of the twin: layers times samples, each sample once for each layer; and the fewest samples."""


def tensors(model: ir.Model, images: NDArray[np.float32], extra: ExtraInputs, device: str) -> Feeds:
    """One batch by input, for the twin."""
    fed = feeds_for(model, images, extra)
    return {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in fed.items()}


def fixed_batch(model: ir.Model) -> int | None:
    """The batch, where the model fixes it."""
    main = main_input_value(model)
    batch = main.shape[0] if main.shape is not None and len(main.shape) else None
    return batch if isinstance(batch, int) else None


def takes_batches(model: ir.Model, twin: Twin, feeds: Feeds, device: str) -> bool:
    """False where the graph fixes the batch in a way that could not be opened: it fails, or mixes the samples."""
    batch, main = fixed_batch(model), str(main_input_value(model).name)
    if batch is None or len(feeds[main]) <= batch:
        return True
    rows = len(feeds[main])
    starts = [slice(start, start + batch) for start in (0, batch) if start + batch <= rows]
    parts = [{name: x[part] if len(x) == rows else x for name, x in feeds.items()} for part in starts]
    whole = {name: x[: batch * len(parts)] if len(x) == rows else x for name, x in feeds.items()}
    try:
        together, alone = twin.run(whole), [twin.run(part) for part in parts]
    except (RuntimeError, ValueError, IndexError) as problem:
        if is_out_of_memory(problem):  # says nothing of the graph
            raise
        return False
    return all(same_rows(together[name], [part[name] for part in alone]) for name in twin.output_names)


def parts_of(model: ir.Model, images: NDArray[np.float32], extra: ExtraInputs, layers: int, device: str) -> list[Feeds]:
    """As many feeds of the model's own batch as :data:`RUNS` allows."""
    batch = fixed_batch(model) or 1
    count = max(1, min(len(images) // batch, max(LEAST_PARTS, RUNS // max(1, layers))))
    parts = [slice(batch * index, batch * (index + 1)) for index in range(count)]
    return [tensors(model, images[part], {n: rows[part] for n, rows in extra.items()}, device) for part in parts]


def shifts_one_by_one(
    twin: Twin, parts: Sequence[Feeds], corrected: Mapping[str, ir.Node], encodings: Mapping[str, Encoding], device: str
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The shifts, where the twin takes one sample at a time: a pass over all of them for each layer.

    Returns:
        the shift of each channel by the name of the output; and the largest one in standard deviations.
    """
    moments = _Moments()
    for feeds in parts:
        twin.run(feeds, hooks={name: moments.recording(name, node) for name, node in corrected.items()})
    wanted, shifts, quantizers = moments, dict[str, Tensor](), fake_quantizers(encodings, device)
    for name, node in corrected.items():
        found = _Moments()
        hooks = dict(quantizers)
        for other in (*shifts, name):
            correct = found.recording(name, node) if other == name else _shifting(corrected[other], shifts[other])
            hooks[other] = _in_turn(correct, quantizers.get(other))
        for feeds in parts:
            twin.run(feeds, hooks=hooks)
        shifts[name] = wanted.mean(name) - found.mean(name)
    return shifts, {name: float((shift.abs() / wanted.deviation(name)).max()) for name, shift in shifts.items()}


class _Moments:
    """Mean and mean square of the channels of tensors, over several runs of equal size."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def recording(self, name: str, node: ir.Node) -> Hook:
        """A hook that takes note of a tensor."""

        def record(values: Tensor) -> Tensor:
            axes, _ = axes_of(node, values.ndim)
            self._seen.setdefault(name, []).append((values.mean(axes), values.square().mean(axes)))
            return values

        return record

    def mean(self, name: str) -> Tensor:
        """Of each channel."""
        return torch.stack([mean for mean, _ in self._seen[name]]).mean(0)

    def deviation(self, name: str) -> Tensor:
        """Standard deviation of each channel."""
        square = torch.stack([square for _, square in self._seen[name]]).mean(0)
        return (square - self.mean(name).square()).clamp_min(1e-24).sqrt()


def _shifting(node: ir.Node, shift: Tensor) -> Hook:
    return lambda values: values + shift.reshape(axes_of(node, values.ndim)[1])


def _in_turn(first: Hook, then: Hook | None) -> Hook:
    return first if then is None else lambda values: then(first(values))


def axes_of(node: ir.Node, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes to average over, and the shape in which a (channels,) vector is added."""
    channel = CHANNEL_AXIS[node.op_type] % ndim
    return tuple(axis for axis in range(ndim) if axis != channel), channel_shape(ndim, channel)
