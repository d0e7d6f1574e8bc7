"""Values of a model's tensors on a few samples, channel by channel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.query import name_of
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.runtime.session import expose_tensors
from dfq_deploy.samples.samples import Samples

__all__ = ["CHUNK", "channel_axis", "tensor_values"]

VALUES = 2**16
"""Number of values kept of one tensor and one sample."""

CHUNK = 48
"""Tensors read in one run: all tensors of a large model do not fit into memory."""

Rows = NDArray[np.float32]


def channel_axis(value: ir.Value) -> int:
    """The channel axis of an activation: the last if a MatMul, LayerNormalization or Softmax touches it, else 1.

    Only the nodes directly before and after the tensor count, not those behind operators that move values. A tensor of
    three axes without such a node is taken for that of a one-dimensional convolution.
    """
    nodes = [use.node for use in value.uses()]
    producer = value.producer()
    if producer is not None:
        nodes.append(producer)
    if any(node.op_type in ("MatMul", "LayerNormalization", "Softmax") for node in nodes):
        return -1
    return 1


def tensor_values(
    model: ir.Model, names: Sequence[str], samples: Samples, axes: Mapping[str, int] | None = None
) -> dict[str, Rows]:
    """Values of float tensors as rows (channels, values), over all samples.

    Of a large tensor the smallest and the largest value of every channel are kept, with an evenly spaced part of the
    others, so that clipping and resolution are measured on real values.

    Args:
        model: any model that ONNX Runtime runs.
        names: of inputs, outputs or intermediate tensors; constants and integers are left out of the result.
        samples: a few.
        axes: channel axis by tensor name; 1 by default.

    Raises:
        ModelError, SamplesError: ONNX Runtime fails on them.
    """
    found: dict[str, Rows] = {}
    computed = [value for node in model.graph for value in node.outputs]
    there = {name_of(value) for value in (*model.graph.inputs, *computed)}
    wanted = [name for name in dict.fromkeys(names) if name in there]
    for start in range(0, len(wanted), CHUNK):
        chunk = wanted[start : start + CHUNK]
        runner = Runner(expose_tensors(model, chunk), name="the model")
        parts: dict[str, list[Rows]] = {name: [] for name in chunk}
        for one in range(len(samples)):
            for part, _ in runner.batches(samples.part(slice(one, one + 1))):
                for name, array in zip(chunk, runner.feed(part), strict=True):
                    if array.dtype == np.float32 and array.size:
                        parts[name].append(_rows(array, (axes or {}).get(name, 1)))
        for name, rows in parts.items():
            if rows and len({len(part) for part in rows}) == 1:
                found[name] = np.concatenate(rows, axis=1)
    return found


def _rows(array: NDArray[Any], axis: int) -> Rows:
    if array.ndim < 2 or not -array.ndim <= axis < array.ndim:
        rows = array.reshape(1, -1)
    else:
        rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    room = max(4, VALUES // len(rows))
    if rows.shape[1] <= room:
        return np.ascontiguousarray(rows)
    spread = rows[:, :: -(-rows.shape[1] // (room - 2))]
    return np.concatenate([spread, rows.min(axis=1, keepdims=True), rows.max(axis=1, keepdims=True)], axis=1)
