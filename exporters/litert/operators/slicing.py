"""Slice, Split, Concat, Pad: what selects or joins values."""

import numpy as np

from dfq_deploy.graph.query import name_of

from ..orders import axis_in, permuted
from ..registry import Unsupported, operator
from ..step import Step, static_shape
from ..values import constant_array

__all__ = ["concat", "pad", "slices", "split"]


@operator("Slice", kind="same")
def slices(step: Step) -> None:
    """SLICE, or STRIDED_SLICE where the step is not 1."""
    entry = step.input(0)
    rank = len(entry.order)
    starts, ends = (step.required(index, "bounds").astype(int).tolist() for index in (1, 2))
    axes = step.constant(3)
    strides = step.constant(4)
    axes_list = list(range(len(starts))) if axes is None else [int(axis) % rank for axis in axes]
    begin, size, stride = [0] * rank, list(entry.shape), [1] * rank
    for index, axis in enumerate(axes_list):
        chosen = slice(starts[index], ends[index], 1 if strides is None else int(strides[index]))
        positions = range(*chosen.indices(entry.shape[axis]))
        begin[axis], size[axis], stride[axis] = positions.start, len(positions), positions.step
    if 0 in size:
        raise Unsupported("its output is empty")
    order = entry.order
    if all(value == 1 for value in stride):
        bounds = [step.writer.numbers(what, list(permuted(values, order))) for what, values in
                  (("begin", begin), ("size", size))]  # fmt: skip
        step.write("SLICE", [entry.tensor, *bounds], order, "SliceOptions")
        return
    end = [first + count * by for first, count, by in zip(begin, size, stride, strict=True)]
    masked = sum(1 << axis_in(order, axis) for axis in range(rank) if end[axis] < 0)
    parts = (("begin", begin), ("end", [max(value, 0) for value in end]), ("strides", stride))
    bounds = [step.writer.numbers(what, list(permuted(values, order))) for what, values in parts]
    step.write("STRIDED_SLICE", [entry.tensor, *bounds], order, "StridedSliceOptions", {"endMask": masked})


@operator("Split", kind="same")
def split(step: Step) -> None:
    """SPLIT into equal parts, else SPLIT_V."""
    entry = step.input(0)
    rank = len(entry.order)
    axis = step.integer("axis", 0) % rank
    place = axis_in(entry.order, axis)
    sizes = [static_shape(value)[axis] for value in step.node.outputs]
    outputs = [step.output(entry.order, index) for index in range(len(sizes))]
    where = step.writer.numbers("axis", place)
    if len(set(sizes)) == 1:
        step.writer.emit("SPLIT", [where, entry.tensor], outputs, "SplitOptions", {"numSplits": len(sizes)})
    else:
        parts = step.writer.numbers("sizes", sizes)
        step.writer.emit("SPLIT_V", [entry.tensor, parts, where], outputs, "SplitVOptions", {"numSplits": len(sizes)})
    for index, tensor in enumerate(outputs):
        step.store(tensor, entry.order, index)


@operator("Concat", kind="same", data=None)
def concat(step: Step) -> None:
    """CONCATENATION; inputs of other scales are requantized to the one that the readers want."""
    rank = len(step.shape)
    order = step.preferred_order(rank)
    axis = step.integer("axis", 0) % rank
    wanted = step.requested or step.encoding
    step.encoding = wanted
    tensors = []
    for value in step.node.inputs:
        array = constant_array(value)
        if array is not None and step.is_integer and wanted is not None:
            integers = wanted.quantize(np.asarray(array.transpose(order), np.float32)).astype(f"int{wanted.qtype.bits}")
            tensors.append(step.writer.constant(name_of(value), integers, wanted))
        elif array is not None:
            tensors.append(step.writer.constant(name_of(value), np.ascontiguousarray(array.transpose(order))))
        else:
            tensor = step.writer.in_order(step.versions(value), order).tensor
            tensors.append(step.writer.in_encoding(tensor, wanted) if step.is_integer and wanted else tensor)
    step.write("CONCATENATION", tensors, order, "ConcatenationOptions", {"axis": axis_in(order, axis)})


@operator("Pad", kind="same")
def pad(step: Step) -> None:
    """PAD, PADV2 for other values than zero, MIRROR_PAD for reflection."""
    entry = step.input(0)
    rank = len(entry.order)
    amounts, axes = step.required(1, "padding").astype(int), step.constant(3)
    places = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    pairs = np.zeros((rank, 2), int)
    for index, axis in enumerate(places):
        pairs[axis] = amounts[index], amounts[index + len(amounts) // 2]
    if np.any(pairs < 0):
        raise Unsupported("it removes values (negative padding)")
    mode = step.text("mode", "constant")
    arranged = step.writer.numbers("padding", pairs[list(entry.order)])
    if mode == "reflect":
        step.write("MIRROR_PAD", [entry.tensor, arranged], entry.order, "MirrorPadOptions", {"mode": 0})
        return
    if mode != "constant":
        raise Unsupported(f"its mode is {mode}")
    given = step.constant(2)
    value = 0.0 if given is None else float(given.reshape(-1)[0])
    if value == 0:
        step.write("PAD", [entry.tensor, arranged], entry.order, "PadOptions")
        return
    encoding = entry.tensor.encoding
    filler = np.asarray([value], entry.tensor.dtype) if encoding is None else encoding.quantize(np.asarray([value]))
    constant = step.writer.constant("filler", filler.astype(entry.tensor.dtype), encoding)
    step.write("PADV2", [entry.tensor, arranged, constant], entry.order, "PadV2Options")
