"""Say whether a network takes pixels from 0 to 255, because it normalizes them itself."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import CHANNELS, is_channels_last, main_input_value, sample_shape
from dfq_deploy.graph.operators import is_op
from dfq_deploy.samples.affine import affine_step
from dfq_deploy.samples.batches import VALUE_PRESERVING_OPS
from dfq_deploy.samples.input_statistics import input_statistics

__all__ = ["raw_pixels_reason"]

Floats = NDArray[np.float64]

DIVISORS = (16.0, 1024.0)
"""What normalizes pixels divides them by a number in between: 255, 127.5, or their deviation, 50 to 80."""

MEAN = 16.0
"""A mean above this that is subtracted is one of pixels."""

WHITE = 255.0
"""A mean above this that is subtracted is one of other numbers: of a sensor with more bits, say."""

DEVIATIONS = (16.0, 128.0)
"""Deviation of the training inputs of a network that takes pixels as they are."""


def raw_pixels_reason(model: ir.Model) -> str | None:
    """Why the main input seems to be pixels from 0 to 255; None where it does not, or is no float image.

    Rules: (1) the input is divided by about 255, by 127.5 or by the deviation of pixels, or a mean of pixels is
    subtracted from it, before the first layer; (2) with neither, the first BatchNormalization expects inputs of such a
    mean and deviation (:func:`dfq_deploy.samples.input_statistics.input_statistics`).
    """
    main, shape = main_input_value(model), sample_shape(model)
    is_image = len(shape) == 3 and shape[-1 if is_channels_last(model) else 0] in CHANNELS
    scale, shift = _normalization(main)
    beyond = np.any(np.abs(shift) > WHITE * np.abs(scale))
    if not is_image or main.dtype != ir.DataType.FLOAT or beyond:
        return None
    divisor = 1 / max(float(np.median(np.abs(scale))), 1e-12)
    if DIVISORS[0] <= divisor <= DIVISORS[1]:
        return f"its graph divides the input by about {divisor:.3g}"
    if np.allclose(scale, 1) and -shift.min() > MEAN:
        return f"its graph subtracts up to {-shift.min():.3g} from the input"
    expected = input_statistics(model) if np.allclose(scale, 1) and not shift.any() else None
    if expected is None or not DEVIATIONS[0] <= expected.std <= DEVIATIONS[1]:
        return None
    if min(expected.mean) < 0 or max(expected.mean) > 255:
        return None
    mean = float(np.mean(expected.mean))
    return f"its first BatchNormalization expects a mean of {mean:.0f} and a deviation of {expected.std:.0f}"


def _normalization(value: ir.Value) -> tuple[Floats, Floats]:
    """Scale and shift that a graph applies to a value before its first layer."""
    scale, shift = np.ones(1), np.zeros(1)
    while len(uses := list(value.uses())) == 1:
        node, position = uses[0]
        if not (is_op(node, VALUE_PRESERVING_OPS) and position == 0):
            step = affine_step(node, position)
            if step is None:
                break
            factor, offset = step.scale.reshape(-1), step.shift.reshape(-1)
            try:
                scale, shift = scale * factor, shift * factor + offset
            except ValueError:  # one for each pixel rather than for each channel
                break
        value = node.outputs[0]
    return scale, shift
