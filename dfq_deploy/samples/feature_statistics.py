"""Mean and deviation of each feature of an input, where the graph standardizes it by itself."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.inputs import main_input_value, sample_shape
from dfq_deploy.graph.operators import is_op
from dfq_deploy.samples.affine import affine_step

__all__ = ["FeatureStatistics", "feature_statistics"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """What the training inputs of a network looked like, in the units of its input.

    Args:
        mean, std: of each feature or channel; they broadcast against one sample.
    """

    mean: Floats
    std: Floats

    def scaled(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples (N, ...) of mean 0 and deviation 1 with this mean and deviation."""
        return np.asarray(samples * self.std + self.mean, np.float32)

    def __str__(self) -> str:
        """For people, e.g. ``means of 0.1 to 880 and deviations of 0.003 to 350``."""
        return (
            f"means of {self.mean.min():.3g} to {self.mean.max():.3g} and deviations of {self.std.min():.3g} to "
            f"{self.std.max():.3g}"
        )


def feature_statistics(model: ir.Model) -> FeatureStatistics | None:
    """Statistics of the main input that the nodes before the first layer tell; None where they tell none.

    A BatchNormalization has measured them. A mean of each feature that is subtracted and a deviation of each that is
    divided by, such as those of scikit-learn's StandardScaler, are taken for those that give a mean of 0 and a
    deviation of 1. One deviation for all features says little: 1 / 255 is none, and positions that are added to
    embeddings are no means. Constants that widen the input, such as the frequencies that a time is multiplied with, are
    no statistics of it.
    """
    value, shape = main_input_value(model), sample_shape(model)
    scale, shift, each = np.ones(1), np.zeros(1), False
    while len(uses := list(value.uses())) == 1:
        node, position = uses[0]
        if not is_op(node, ("Cast", "Identity")):
            step = affine_step(node, position)
            if step is None:
                break
            if step.mean is not None and step.std is not None:
                return _in_units_of_input(shape, (step.mean, step.std), scale, shift)
            each |= step.scale.size > 1 and bool((step.scale != 1).any())
            scale, shift = scale * step.scale, shift * step.scale + step.shift
        value = node.outputs[0]
    standard = np.zeros(1), np.ones(1)
    return _in_units_of_input(shape, standard, scale, shift) if each and shift.size > 1 and shift.any() else None


def _in_units_of_input(
    shape: tuple[int, ...], statistics: tuple[Floats, Floats], scale: Floats, shift: Floats
) -> FeatureStatistics | None:
    """Mean and deviation of samples of ``shape``, from those of ``scale * x + shift``.

    None where a factor is zero, and for statistics that differ from sample to sample, do not fit a sample, or are not
    finite.
    """
    if not scale.all():
        return None
    mean, std = np.broadcast_arrays((statistics[0] - shift) / scale, statistics[1] / np.abs(scale))
    if mean.ndim > len(shape):
        if mean.shape[0] != 1:
            return None
        mean, std = mean[0], std[0]
    if np.broadcast_shapes(mean.shape, shape) != shape:
        return None
    finite = np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()
    return FeatureStatistics(mean, std) if finite else None
