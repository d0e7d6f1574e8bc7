"""Token ids, masks, types and positions of samples of varied lengths, which agree with each other."""

from collections.abc import Collection, Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import ModelInput, has_batch_axis, main_input
from dfq_deploy.graph.main_input import words_of

__all__ = ["Part", "cut", "lengths", "on_lengths", "part_of"]

STREAM = (7, 11)
"""Of the seed, for the lengths: the same for all inputs of a model."""

LEAST_AXIS = 2
"""Shorter axes are no sequence."""


class Part(Enum):
    """What an input is in a sequence; the value says how it depends on the length, for people."""

    IDS = "0 after the end of the sample"
    LENGTH = "the length of the sample"
    MASK = "1 up to the end of the sample and 0 after it"
    PADDING_MASK = "0 up to the end of the sample and 1 after it"
    POSITIONS = "0, 1, 2 and so on"
    TYPES = "1 in a second segment and 0 elsewhere"


def lengths(count: int, longest: int, seed: int) -> NDArray[np.int64]:
    """Lengths int64 (count,) from 1 to ``longest``, spread evenly and shuffled; the first is ``longest``."""
    spread = np.rint(np.linspace(longest, 1, count)).astype(np.int64)
    np.random.default_rng([seed, *STREAM]).shuffle(spread[1:])
    return spread


def part_of(port: ModelInput, ports: Sequence[ModelInput], stated: Collection[str] = ()) -> tuple[Part, int] | None:
    """What ``port`` is, and the longest length; None where it belongs to no sequence that can be cut.

    A sequence can be cut where a mask of its length goes with it, or the number of its tokens; the main input is
    made of tokens then, or is (time) or (time, features) for a sample, or is a picture or the like, beside which tokens
    and their mask are a sequence (CLIP). Encoder and decoder are sequences of their own.

    Args:
        ports: all inputs of the model.
        stated: names of those that are drawn from a range that the caller states, so that nothing is cut by them.
    """
    main = main_input(ports)
    tokens = not main.is_float
    if len(main.sample) > 2 or main.dtype == "uint8":
        return _beside_pictures(port, ports, stated)
    if not has_batch_axis(port, main):
        return None
    own = [other for other in ports if _is_decoder(other) == _is_decoder(port) and other.name not in stated]
    masks = [other for other in own if _is_mask(other)]
    counts = [other for other in own if _is_count(other) and tokens]
    if _is_count(port):
        longest = _axis(main)
        return (Part.LENGTH, longest) if port in counts and longest and port != main else None
    longest = _axis(port)
    known = {_axis(mask) for mask in masks} | ({_axis(main)} if counts else set())
    if longest is None or longest not in known:
        return None
    part = _kind(port)
    return None if part is None else (part, longest)


def _beside_pictures(port: ModelInput, ports: Sequence[ModelInput], stated: Collection[str]) -> tuple[Part, int] | None:
    """:func:`part_of` beside a main input of more than two axes: what belongs to tokens is (N, longest)."""
    others = [other for other in ports if not other.is_float and len(other.sample) == 1 and other.name not in stated]
    own = [other for other in others if other != main_input(ports) and _is_decoder(other) == _is_decoder(port)]
    longest = _axis(port)
    beside = [other for other in own if _axis(other) == longest]
    is_sequence = any(map(_is_mask, beside)) and not all(map(_is_mask, beside))
    part = _kind(port) if port in beside and is_sequence else None
    return None if part is None or longest is None else (part, longest)


def _kind(port: ModelInput) -> Part | None:
    words = words_of(port.name)
    if _is_mask(port):
        hides = port.dtype == "bool" and not words.isdisjoint({"pad", "padding"})
        return Part.PADDING_MASK if hides else Part.MASK
    if port.is_float:
        return None
    if not words.isdisjoint({"position", "positions", "pos"}):
        return Part.POSITIONS
    return Part.IDS if words.isdisjoint({"segment", "segments", "type", "types"}) else Part.TYPES


def _is_mask(port: ModelInput) -> bool:
    return port.dtype == "bool" or "mask" in port.name.lower()


def _is_count(port: ModelInput) -> bool:
    short = all(dim == 1 for dim in port.sample)
    return not port.is_float and short and not words_of(port.name).isdisjoint({"len", "lens", "length", "lengths"})


def _is_decoder(port: ModelInput) -> bool:
    return "decoder" in words_of(port.name)


def _axis(port: ModelInput) -> int | None:
    """The last axis that is one of a sequence."""
    sizes = [dim for dim in port.sample if dim is not None]
    if not sizes or len(sizes) < len(port.sample):
        return None
    axis = sizes[0] if port.is_float and len(sizes) == 2 and not _is_mask(port) else sizes[-1]
    return axis if axis >= LEAST_AXIS else None


def on_lengths(part: Part, values: NDArray[Any], longest: int, seed: int) -> NDArray[Any]:
    """``values`` (N, ..., longest) of one input, cut to the :func:`lengths` of the samples."""
    ends = lengths(len(values), longest, seed)
    begins = np.zeros_like(ends)
    if part is Part.TYPES:  # every second sample has a second segment, which begins somewhere inside
        begins = np.random.default_rng([seed, *STREAM, 1]).integers(0, ends, endpoint=True)
        begins[1::2] = ends[1::2]
    return cut(part, values, ends, begins)


def cut(
    part: Part, values: NDArray[Any], ends: NDArray[np.int64], begins: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """``values`` (N, ..., longest) of one input where the samples are, from ``begins`` (0) to ``ends``; 0 elsewhere."""
    if part is Part.LENGTH:
        return np.broadcast_to(ends.reshape(-1, *[1] * (values.ndim - 1)), values.shape).astype(values.dtype)
    if part is Part.POSITIONS:
        return values
    longest, starts = values.shape[-1], np.zeros_like(ends) if begins is None else begins
    steps = np.arange(longest)
    inside = (starts[:, None] <= steps) & (steps < ends[:, None])
    kept = inside.reshape(-1, *[1] * (values.ndim - 2), longest) != (part is Part.PADDING_MASK)
    return np.where(kept, values, 0).astype(values.dtype)
