"""Find the activation whose wrong scale makes a bias wrong.

In layers that compute on integers the scale of the bias is the product of those of activation and weight. Where that of
the activation is too large the bias is so too, by the same factor, and does the harm.
"""

import math
from collections.abc import Mapping

import numpy as np

from dfq_deploy.evaluation.integer_layers import FOLLOWING
from dfq_deploy.evaluation.qdq_pairs import WeightPair
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.qdq_reader import quantizer_of

__all__ = ["wrong_activation"]


def wrong_activation(pair: WeightPair, times: float, sizes: Mapping[str, float]) -> str:
    """The activation that a layer reads, if its scale explains that the bias is ``times`` float's; else empty.

    Without that factor the scale has to be more like those of other activations than it is.

    Args:
        pair: the weight of the layer.
        sizes: activation -> how many times larger its scale is than its values on a few samples need.
    """
    value, bias = pair.node.inputs[1 - pair.place], pair.node.inputs[2] if len(pair.node.inputs) > 2 else None
    dequantizer = None if value is None else value.producer()
    quantizer = None if dequantizer is None else quantizer_of(dequantizer)
    if bias is None or FOLLOWING not in bias.meta or quantizer is None or times <= 0:
        return ""
    tensor = name_of(quantizer.inputs[0])
    if tensor not in sizes:
        return ""
    usual = float(np.median(np.log([max(size, 1e-30) for size in sizes.values()])))
    size = math.log(max(sizes[tensor], 1e-30)) - usual
    return tensor if abs(size - math.log(times)) < abs(size) else ""
