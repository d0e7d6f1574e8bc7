"""Tell a Relu or Clip that a file lacks from a wrong zero point of integers that stand for it.

Quantizers leave out a Relu whose integers begin at zero. In a file of such a one a Relu is missing everywhere; where
integers begin below zero, their zero point is wrong.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dfq_deploy.evaluation.common_tensors import NamedGraph
from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.metrics import signal_to_noise
from dfq_deploy.evaluation.qdq_pairs import ActivationPair, activation_pairs
from dfq_deploy.evaluation.tensor_values import tensor_values
from dfq_deploy.graph.operators import operator_of
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.placement.limits import Limits, activation_limits
from dfq_deploy.samples.samples import Samples

__all__ = ["MissingClip", "missing_clip", "missing_clip_faults"]

UNCLIPPED = 12.0
"""dB below which the values count that go beyond what the Relu or Clip lets through."""

FEWEST = 2
"""Relus and Clips that the integers stand for, from which the file's quantizer leaves them out, ..."""

MOST = 2 / 3
"""... and so many of all."""

Graphs = tuple[NamedGraph, NamedGraph]


@dataclass(frozen=True)
class MissingClip:
    """A Relu or Clip that is missing.

    Args:
        node: as ``Relu 'relu'``.
        limits: smallest and largest value that it lets through.
        read: the tensor that it reads in the float model.
        exact: the one that it writes there.
        given: the tensor that stands for it in the quantized file.
        shown: the name that float has for that.
    """

    node: str
    limits: Limits
    read: str
    exact: str
    given: str
    shown: str


def missing_clip(graphs: Graphs, node: ir.Node | None) -> MissingClip | None:
    """The Relu or Clip that ``node`` is; None for other nodes, and where nothing stands for what it writes.

    Args:
        graphs: the float model, and the quantized file that lacks the node.
    """
    limits = None if node is None else activation_limits(node)
    if node is None or limits is None:
        return None
    ends = [name_of(value) for value in (node.outputs[0], node.inputs[0])]
    found = ((value, name) for name in ends if (value := graphs[1].tensor(name)) is not None)
    given, shown = next(found, (None, ""))
    named = f"{operator_of(node)} '{node.name}'"
    return None if given is None else MissingClip(named, limits, ends[1], ends[0], name_of(given), shown)


def missing_clip_faults(graphs: Graphs, clips: Mapping[str, MissingClip], samples: Samples) -> dict[str, FileFault]:
    """The faults among clips that are missing; none where the quantized values stay within the limits.

    Args:
        clips: by the tensor that they are part of.
    """
    if not clips:
        return {}
    beyond = _beyond(graphs, clips, samples)
    found = {}
    pairs = {pair.tensor: pair for pair in activation_pairs(graphs[1].model)}
    left_out = _are_left_out(graphs, pairs)
    for name, clip in clips.items():
        if beyond[name] >= UNCLIPPED:
            continue
        behind, pair = f"{beyond[name]:.1f} dB signal to noise", _pair(clip, pairs)
        if left_out and pair is not None and clip.limits[0] == 0 and not _begins_at_zero(pair):
            message = f"the zero point of activation '{pair.tensor}' is {int(pair.written.zero_point)}, where "
            message += f"{pair.written.qtype.qmin} would stand for {clip.node} of the float model: {behind}"
            found[name] = FileFault("zero-point", pair.tensor, clip.node, message, beyond[name])
            continue
        message = f"{clip.node} of the float model is missing in the quantized file, and '{clip.shown}' goes beyond "
        found[name] = FileFault("node", name, clip.node, f"{message}what it lets through: {behind}", beyond[name])
    return found


def _are_left_out(graphs: Graphs, pairs: Mapping[str, ActivationPair]) -> bool:
    """Whether the file has no Relu and Clip before a quantized tensor, and integers that begin at zero for most."""
    kept = {name_of(node.outputs[0]) for node in graphs[1].model.graph if activation_limits(node) is not None}
    clips = [clip for node in graphs[0].model.graph if (clip := missing_clip(graphs, node)) is not None]
    found = [pair for clip in clips if clip.limits[0] == 0 and (pair := _pair(clip, pairs)) is not None]
    standing = sum(map(_begins_at_zero, found))
    none_kept = not any(clip.exact in kept for clip in clips)
    return none_kept and standing >= max(FEWEST, MOST * len(found))


def _pair(clip: MissingClip, pairs: Mapping[str, ActivationPair]) -> ActivationPair | None:
    """The integers that stand for what a clip writes, under whatever name the file has for them."""
    return pairs.get(clip.exact) or pairs.get(clip.read)


def _begins_at_zero(pair: ActivationPair) -> bool:
    return int(pair.written.zero_point) == pair.written.qtype.qmin


def _beyond(graphs: Graphs, clips: Mapping[str, MissingClip], samples: Samples) -> dict[str, float]:
    """Float's power behind each clip, relative to that of the quantized values beyond its limits, in dB."""
    wanted = tensor_values(graphs[0].model, [clip.exact for clip in clips.values()], samples)
    found = tensor_values(graphs[1].model, [clip.given for clip in clips.values()], samples)
    noises = dict.fromkeys(clips, math.inf)
    for name, clip in clips.items():
        if clip.exact in wanted and clip.given in found:
            exact, given = wanted[clip.exact], found[clip.given]
            outside = given - np.clip(given, *clip.limits)
            noises[name] = signal_to_noise(float(np.square(exact).mean()), float(np.square(outside).mean()))
    return noises
