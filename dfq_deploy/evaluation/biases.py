"""Compare each bias of a quantized file with the float model's.

Only what neither bias correction nor equalization explains (:mod:`dfq_deploy.evaluation.bias_layers`) is named. The
bounds lie beyond what these leave unexplained in sound files. ``python -m benchmarks.planted_faults --biases --models
digits resnet20 mobilenet_v1 --settings 0 1 8 9 10 11`` prints that: figures in brackets are those of 8 bits and of 4.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.evaluation.bias_layers import BiasLayer, bias_layers
from dfq_deploy.evaluation.derived_scales import wrong_activation
from dfq_deploy.evaluation.file_fault import FileFault
from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.qdq_pairs import WeightPair
from dfq_deploy.samples.samples import Samples

__all__ = ["OUTLIER", "PROPORTIONAL", "bias_faults"]

PROPORTIONAL = 0.97
"""Cosine from which a bias is a multiple of float's."""

MULTIPLE = 1.5
"""Factor, or its inverse, from which a multiple is none that a correction makes (1.02 at most; 1.51 in one bias at 4
bits)."""

UNEXPLAINED = 1 / 3
"""Part of float's bias that has to be unexplained for a multiple of it to count (0.06 at most at 8 bits; at 4 it can be
all of it, and the multiple decides)."""

FEWEST = 3
"""Channels below which two biases are proportional by chance."""

FOREIGN = 1.0
"""Standard deviations of the layer's output by which other values have to move its channels, in the mean (0.03 and 0.91
at most)."""

OUTLIER = 3.0
"""The same for a single channel (0.16 at most at 8 bits; twice as far below, where it is 4.4), ..."""

FINE = 8
"""Bits of a weight from which a correction moves no channel far."""

APART = 10.0
"""... if that is so many times what the channel in the middle is moved by."""

NEGLIGIBLE = 0.02
"""The same of float's bias, for one that is zero or a multiple: a smaller one says nothing."""

Floats = NDArray[np.floating[Any]]


def bias_faults(
    floats: FloatWeights,
    pairs: Sequence[WeightPair],
    factors: Mapping[str, Floats],
    samples: Samples,
    sizes: Mapping[str, float],
) -> list[FileFault]:
    """The biases that are a multiple of float's, zero, or something else, or the activations whose scales make them so.

    Args:
        pairs: the quantized weights of the file, whose layers are looked at.
        factors: tensor of the float model -> factor of each of its channels by equalization.
        samples: a few.
        sizes: activation -> how many times larger its scale is than its values on these samples need.

    Raises:
        ModelError, SamplesError: ONNX Runtime fails on them.
    """
    found: dict[tuple[str, str], FileFault] = {}
    for layer in bias_layers(floats, pairs, factors, samples):
        fault = _fault(layer, sizes)
        if fault is not None:
            found.setdefault((fault.kind, fault.tensor), fault)  # several layers read an activation
    return list(found.values())


def _fault(layer: BiasLayer, sizes: Mapping[str, float]) -> FileFault | None:
    """What is wrong with a bias, or with the scale that its own follows from; None where nothing is known to be."""
    given, left = layer.given.values, layer.unexplained()
    effect, size = layer.rms(left), layer.rms(layer.exact / layer.spread)
    name = f"the bias '{layer.given.name}' of {layer.where}"
    noise = -20 * math.log10(max(effect, 1e-12))
    behind = f"that alone leaves {noise:.1f} dB signal to noise behind the layer"
    if not given.any():
        if size < NEGLIGIBLE:
            return None
        return FileFault("bias", layer.given.name, layer.where, f"{name} is zero, and float's is not: {behind}", noise)
    times = _multiple(layer)
    if times is not None and effect >= UNEXPLAINED * size and size >= NEGLIGIBLE:
        how = f"{times:.2g} times float's" if times > 0 else f"{-times:.2g} times float's, with the other sign"
        tensor = wrong_activation(layer.pair, times, sizes)
        if tensor:
            wrong = f"{times:.2g} times too large" if times >= 1 else f"{1 / times:.2g} times too small"
            said = f"the scale of activation '{tensor}' is about {wrong}: {name}, whose scale follows from it, is {how}"
            return FileFault("scale", tensor, layer.where, f"{said}: {behind}", noise)
        return FileFault("bias", layer.given.name, layer.where, f"{name} is {how}: {behind}", noise)
    said = _other_values(layer, left)
    if not said:
        return None
    ending = f": {behind}" if "channel" not in said else ""
    return FileFault("bias", layer.given.name, layer.where, f"{name} has {said}{ending}", noise)


def _other_values(layer: BiasLayer, left: Floats) -> str:
    """Whether a bias has another value than float's in one channel, or in many; empty for neither."""
    given, channel = layer.given.values, int(left.argmax())
    least = OUTLIER if layer.pair.encoding.qtype.bits >= FINE else 2 * OUTLIER
    if left[channel] >= max(least, APART * float(np.median(left[layer.alive]))):
        values = f"{given[channel]:.4g}, where float needs {layer.exact[channel]:.4g}"
        return f"another value than float's in channel {channel}: {values}"
    return "other values than float's" if layer.rms(left) >= FOREIGN else ""


def _multiple(layer: BiasLayer) -> float | None:
    """How many times float's bias it is, corrected in part; None if it is no multiple, or one to be expected."""
    if layer.alive.sum() < FEWEST:
        return None
    likely = (fit.times for fit in layer.multiples() if fit.cosine >= PROPORTIONAL and 0 <= fit.correction <= MULTIPLE)
    return next((times for times in likely if not 1 / MULTIPLE <= times <= MULTIPLE), None)
