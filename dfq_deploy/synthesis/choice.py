"""Choose the synthesis method for a model and its bit widths."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.inputs import main_input, model_inputs, sample_shape
from dfq_deploy.graph.query import batch_normalizations, score_count
from dfq_deploy.samples.sizes import is_large
from dfq_deploy.synthesis.losses.attention import attention_outputs
from dfq_deploy.twin import Twin

__all__ = ["Choice", "choose"]

ENOUGH = 8
"""Bits of weights and activations from which on samples by rule lose no more than inverted ones."""


@dataclass(frozen=True)
class Choice:
    """A synthesis method, and why it was chosen.

    Args:
        method: its name.
        reason: a sentence without a full stop.
    """

    method: str
    reason: str


def choose(model: ir.Model, teachers: Sequence[ir.Model], bits: int) -> Choice:
    """The method that measures best for a file at a width, of those that take as long as the width needs.

    The tables are those of docs/methods.md: (1) at 8 bits pictures by rule, which take seconds, are as good as inverted
    samples; (2) below, inverted samples where a teacher has BatchNormalization, or the model and its images are large,
    (3) ``psaq`` for images and attention, (4) ``anchored`` for other classifiers of images, which with small ones is as
    good as inverted samples in a fraction of their time, (5) pictures by rule for all other files.

    Args:
        bits: the smallest width of weights and activations.
    """
    if bits >= ENOUGH:
        return Choice("procedural", f"at {bits} bits samples by rule take seconds and lose no more than inverted ones")
    if not main_input(model_inputs(model)).is_float:
        return Choice("procedural", "its input is made of integers, which are drawn by rule")
    has_statistics, shape = bool(batch_normalizations(model)), sample_shape(model)
    is_small = len(shape) == 3 and not is_large(shape)
    is_matched = any(batch_normalizations(teacher) for teacher in teachers) or (has_statistics and not is_small)
    twin = None if is_matched or len(shape) != 3 else _twin(model)
    classifies = twin is not None and score_count(model) is not None
    if is_matched or (has_statistics and not classifies):
        return Choice("deepinversion", f"at {bits} bits samples that match BatchNormalization lose least")
    if twin is not None and attention_outputs(twin) and not has_statistics:
        return Choice("psaq", f"at {bits} bits samples that vary the attention to image patches lose least")
    if classifies:
        further = (
            ", and with small images about as much as samples that match BatchNormalization, which take longer"
            if is_small
            else "; no BatchNormalization is left in the file (exporters fold it): for still better samples give the "
            "same network exported with it as --teacher"
        )
        drawn = f"at {bits} bits pictures by rule that descend on class scores lose less than pictures alone"
        return Choice("anchored", drawn + further)
    return Choice(
        "procedural",
        f"at {bits} bits inverted samples would lose less, but no BatchNormalization is left in the file (exporters "
        "fold it); give the same network exported with it as --teacher",
    )


def _twin(model: ir.Model) -> Twin | None:
    """The twin; None where there is none."""
    try:
        return Twin.from_model(model)
    except ModelError:
        return None
