"""Give the channels of an activation equal ranges, so that one scale serves them all.

A quantized tensor has one scale. Where its channels differ by more than ten times, as behind the learned scales and
hard swishes of PP-LCNetV3, the small ones keep a few steps of it; a depthwise convolution or an activation function
that reads them works channel by channel, and nothing averages that noise out. So the tensor is multiplied by ``s`` for
each channel where it is written, and what reads it takes ``s`` back. The function stays the same.

As in SmoothQuant (Xiao et al. 2023) and cross-layer equalization (Nagel et al. 2019), weights take the factors where
they can: those of the convolution before, also through a Relu, and those of the one behind. Unlike these, operators in
float need not be homogeneous: a Mul is put in their way, unless a scale by a constant stands there already.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from dfq_deploy.graph.channel_scaling import output_channels, scale_inputs, scale_outputs, set_constant, takes_shift
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.encode import Prepared
from dfq_deploy.quantization.placement.limits import UNBOUNDED
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin.teacher import teacher_of, twin_images

__all__ = ["equalize_channels"]

logger = logging.getLogger(__name__)

SPREAD = 2.0
"""How many times larger the largest channel has to be than the one in the middle for a tensor to be worth it."""

MOST = 32.0
"""Largest factor: a channel that is nearly empty on the samples may not be so on real inputs."""

BATCH = 8

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Place:
    """A quantized tensor whose channels can be scaled.

    Args:
        value: the tensor, (N, C, ...).
        weighted: convolutions that read it; they take the factors back in their weights.
        others: operators in float that read it, and as which input; they read it through a Mul.
    """

    value: ir.Value
    weighted: tuple[ir.Node, ...]
    others: tuple[tuple[ir.Node, int], ...]

    @property
    def mixes(self) -> bool:
        """True if a reader adds channels up: its weights carry the factors at one scale for all of them."""
        return any(node.attributes.get_int("group", 1) == 1 for node in self.weighted)


def equalize_channels(
    prepared: Prepared, samples: Samples, *, device: str = "cpu", progress: Progress = SILENT
) -> Prepared:
    """Scale the channels of quantized activations in ``prepared.model``, in place.

    Only for targets that compute in float between integer kernels. The factor of a channel is its distance from the
    largest one, or the root of that where a reader adds channels up; at most 32.

    Args:
        samples: to measure the channels on.

    Returns:
        ``prepared``, with the limits of the tensors that were scaled.
    """
    if prepared.target.style != "kernels" or prepared.target.whole_ops is not None:
        return prepared
    places = _places(prepared)
    reach = _reach(prepared, places, samples, device, progress)
    limits, scaled = dict(prepared.placement.limits), 0
    for place in places:
        name = name_of(place.value)
        low, high = limits.get(name, UNBOUNDED)
        lows, highs = (np.clip(ends, low, high) for ends in reach[name])
        factor = _factors(np.maximum(-lows, highs), place.mixes)
        if factor is None:
            continue
        _scale(prepared.model.graph, place, factor)
        scaled += 1
        if name in limits:
            limits[name] = (float(min((factor * low).min(), 0.0)), float((factor * high).max()))
    logger.info("channels: %d of %d tensors were scaled", scaled, len(places))
    return replace(prepared, placement=replace(prepared.placement, limits=limits))


def _factors(peak: Floats, mixes: bool) -> Floats | None:
    """The factor of each channel; None where the channels are nearly the same."""
    used = peak > 0
    if not used.any() or peak.max() < SPREAD * np.median(peak[used]):
        return None
    ratio = np.ones_like(peak)
    ratio[used] = peak.max() / peak[used]
    found: Floats = np.minimum(np.sqrt(ratio) if mixes else ratio, MOST)
    return found


def _places(prepared: Prepared) -> list[_Place]:
    graph, placement = prepared.model.graph, prepared.placement
    shared = frozenset[str]().union(*placement.shared)
    found = []
    for node in graph:
        for value in node.outputs:
            name = name_of(value)
            if name in placement.activations and name not in shared and not value.is_graph_output():
                place = _place(value, prepared)
                found += [] if place is None else [place]
    return found


def _place(value: ir.Value, prepared: Prepared) -> _Place | None:
    if not _can_be_written_scaled(value, prepared):
        return None
    weighted, others = [], []
    for use in value.uses():
        if is_op(use.node, "Conv") and use.idx == 0 and _owns_constants(use.node):
            weighted.append(use.node)
        elif is_op(use.node, WEIGHTED_OPS) or _is_integer(use.node, prepared) or use.node.graph is not value.graph:
            return None
        else:
            others.append((use.node, use.idx))
    return _Place(value, tuple(weighted), tuple(others)) if weighted or others else None


def _can_be_written_scaled(value: ir.Value, prepared: Prepared) -> bool:
    """True if what writes ``value`` takes factors: a layer, perhaps with its Relu, or an operator in float."""
    producer = value.producer()
    if value.shape is None or len(value.shape) != 4 or producer is None or is_op(producer, "Clip"):
        return False
    if is_op(producer, WEIGHTED_OPS):
        return _owns_constants(producer) and takes_shift(producer)
    if is_op(producer, "Relu"):
        return _layer_before(producer) is not None
    return not _is_integer(producer, prepared) and not is_op(producer, prepared.target.passing_ops)


def _is_integer(node: ir.Node, prepared: Prepared) -> bool:
    """True if ``node`` reads and writes integers, or only moves values: nothing can be put before it."""
    if not is_op(node, prepared.target.quantized_ops | prepared.target.passing_ops):
        return False
    known = prepared.placement.activations
    computed = [value for value in node.inputs if value is not None and constant_of(value) is None]
    writes = any(name_of(value) in known for value in node.outputs)
    return writes and all(name_of(value) in known for value in computed)


def _owns_constants(node: ir.Node) -> bool:
    """True if no other node reads the weight or the bias."""
    values = [value for value in node.inputs[1:3] if value is not None]
    return output_channels(node) is not None and all(
        constant_of(value) is not None and len(tuple(value.uses())) == 1 for value in values
    )


def _layer_before(relu: ir.Node) -> ir.Node | None:
    """The layer that alone feeds ``relu``."""
    value = relu.inputs[0]
    node = None if value is None else value.producer()
    if value is None or node is None or len(tuple(value.uses())) != 1 or value.is_graph_output():
        return None
    return node if is_op(node, "Conv") and _owns_constants(node) and takes_shift(node) else None


def _scale(graph: ir.Graph, place: _Place, factor: Floats) -> None:
    value, names = place.value, Names(graph)
    for node in place.weighted:
        scale_inputs(graph, node, 1 / factor)
    if place.others:
        restored = _product(graph, value, 1 / factor, names, after=value.producer())
        for reader, index in place.others:
            reader.replace_input_with(index, restored)
    producer = value.producer()
    assert producer is not None
    layer = _layer_before(producer) if is_op(producer, "Relu") else producer
    if layer is not None and is_op(layer, WEIGHTED_OPS):
        scale_outputs(graph, layer, factor)
    else:
        _scale_written(graph, value, factor, names)


def _scale_written(graph: ir.Graph, value: ir.Value, factor: Floats, names: Names) -> None:
    """Scale what an operator in float writes: in its constants, or by a Mul behind it that takes over the name."""
    node = value.producer()
    assert node is not None
    if _scales_constants(graph, node, factor, names):
        return
    name = name_of(value)
    uses = tuple(value.uses())
    value.name = names.fresh(f"{name}_unscaled")
    scaled = _product(graph, value, factor, names, after=node)
    for use in uses:
        use.node.replace_input_with(use.idx, scaled)
    scaled.name = name


def _scales_constants(graph: ir.Graph, node: ir.Node, factor: Floats, names: Names) -> bool:
    """Put the factors into ``node``'s constant where it is a Mul or Div by one, or an Add or Sub behind such."""
    place = next((place for place, value in enumerate(node.inputs) if constant_of(value) is not None), None)
    if place is None or not is_op(node, ("Mul", "Div", "Add", "Sub")) or (is_op(node, "Div") and place == 0):
        return False
    source = node.inputs[1 - place]
    if is_op(node, ("Add", "Sub")):
        before = None if source is None else source.producer()
        alone = source is not None and len(tuple(source.uses())) == 1 and not source.is_graph_output()
        if before is None or not alone or not _scales_constants(graph, before, factor, names):
            return False
    constant = constant_of(node.inputs[place])
    assert constant is not None
    array = constant.numpy().astype(np.float64)
    shape = factor.reshape(-1, 1, 1)
    moved = array / shape if is_op(node, "Div") else array * shape
    set_constant(graph, node, place, moved.astype(constant.numpy().dtype), f"{node.name}_factors")
    return True


def _product(graph: ir.Graph, value: ir.Value, factor: Floats, names: Names, after: ir.Node | None) -> ir.Value:
    assert after is not None
    name = names.fresh(f"{name_of(value)}_factors")
    constant = add_constant(graph, name, factor.reshape(1, -1, 1, 1).astype(np.float32))
    node = ir.node("Mul", [value, constant], name=names.fresh(f"{name_of(value)}_by_channel"))
    product = node.outputs[0]
    product.name, product.type, product.shape = names.fresh(f"{node.name}_output"), value.type, value.shape
    graph.insert_after(after, node)
    return product


@torch.no_grad()
def _reach(
    prepared: Prepared, places: list[_Place], samples: Samples, device: str, progress: Progress
) -> dict[str, tuple[Floats, Floats]]:
    """Least and greatest value of each channel, over all samples."""
    names = tuple(name_of(place.value) for place in places)
    found: dict[str, tuple[Floats, Floats]] = {}
    twin = teacher_of(prepared.model, samples.extra, device)
    batches = torch.split(twin_images(prepared.model, samples), BATCH)
    progress.start("channels", len(batches))
    for images in batches:
        tensors = twin.run({twin.input_names[0]: images.to(device)}, keep=names)
        for name in names:
            low, high = (
                ends.double().cpu().numpy() for ends in torch.aminmax(tensors[name].transpose(0, 1).flatten(1), dim=1)
            )
            lows, highs = found.get(name, (low, high))
            found[name] = np.minimum(lows, low), np.maximum(highs, high)
        progress.advance()
    return found
