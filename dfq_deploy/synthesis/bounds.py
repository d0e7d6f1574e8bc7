"""Decide between which values samples lie: from options, the graph and names of inputs."""

import math
from collections.abc import Sequence

import onnx_ir as ir

from dfq_deploy.graph.inputs import main_input, model_inputs, other_inputs, sample_shape
from dfq_deploy.graph.main_input import says_sample_rate, says_sound
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.samples.raw_pixels import raw_pixels_reason
from dfq_deploy.synthesis.procedural.inputs import InputRanges
from dfq_deploy.synthesis.procedural.signals import SHORTEST

__all__ = ["bounds_note", "sample_bounds"]

STEREO = 2
"""A waveform has at most so many channels; more values for each moment are features of sound, not sound."""


def sample_bounds(
    model: ir.Model, preprocess: Preprocess | None, ranges: InputRanges, teachers: Sequence[ir.Model] = ()
) -> Preprocess | None:
    """The bounds of the samples as a preprocess: the given one, the range set for the main input, or what is known.

    Integers, and networks that normalize pixels themselves (:func:`dfq_deploy.samples.raw_pixels.raw_pixels_reason`),
    take 0 to 255, and waveforms -1 to 1. None if nothing tells the bounds.
    """
    main = main_input(model_inputs(model))
    if preprocess is not None:
        return preprocess
    if main.name in ranges:
        low, high = ranges[main.name]
        return Preprocess((-low / (high - low),), (1 / (high - low),))
    if not main.is_float or _raw_pixels_reason(model, teachers):
        return PREPROCESSES["raw"]
    return Preprocess((0.5,), (0.5,)) if _is_sound(model) else None


def bounds_note(model: ir.Model, teachers: Sequence[ir.Model]) -> str:
    """Why samples of floats have bounds that no option has set."""
    reason = _raw_pixels_reason(model, teachers)
    if reason is None:
        name = main_input(model_inputs(model)).name
        return (
            f"input '{name}' seems to take sound, whose values lie between -1 and 1, so the samples were kept in that "
            f"range; --input-range {name}:LO,HI sets another"
        )
    return (
        f"no --preprocess is given and the model seems to take pixels from 0 to 255 ({reason}), so the samples were "
        "kept in that range; --preprocess sets another"
    )


def _raw_pixels_reason(model: ir.Model, teachers: Sequence[ir.Model]) -> str | None:
    return next((reason for source in (model, *teachers) if (reason := raw_pixels_reason(source))), None)


def _is_sound(model: ir.Model) -> bool:
    """Whether the main input is a waveform by its shape, and by its name or a sample rate beside it."""
    inputs, shape = model_inputs(model), sample_shape(model)
    length = max(shape, default=0)
    if length < SHORTEST or math.prod(shape) > STEREO * length:
        return False
    return says_sound(main_input(inputs).name) or any(says_sample_rate(other.name) for other in other_inputs(inputs))
