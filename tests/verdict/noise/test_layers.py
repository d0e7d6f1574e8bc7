"""Which nodes count as quantized layers."""

from collections.abc import Callable

import numpy as np
import onnx

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.graph.loading import load
from dfq_deploy.verdict.noise.layers import quantized_layers

ModelOf = Callable[..., onnx.ModelProto]

U8 = QuantType(8, signed=False, symmetric=False)
WIDE, NARROW = (Encoding.of_range(Range(-size, size), U8) for size in (4, 1))


def test_layers_of_a_small_graph(model_of: ModelOf) -> None:
    weights = {"w": np.ones((4, 4, 1, 1), np.float32)}
    nodes = "c = Conv(x, w) r = Relu(c) m = MaxPool<kernel_shape=[2,2]>(r) s = Sigmoid(m) y = Add(s, m)"
    model = load(model_of("float[n,4,6,6] x", "float[n,4,5,5] y", nodes, weights))
    found = quantized_layers(model, {"x": WIDE, "w": WIDE, "r": NARROW, "m": NARROW})
    assert [layer.operator for layer in found] == ["Conv", "Sigmoid", "Add"]
    first, _, last = found
    assert (first.weight, first.activations, first.output) == ("w", ("x",), "r")
    assert (last.weight, last.activations, last.reads) == ("", ("m",), ((1, "m"),))
    # At two scales the pooling's input is rounded apart from its output.
    apart = quantized_layers(model, {"x": WIDE, "w": WIDE, "r": NARROW, "m": WIDE})
    assert [layer.operator for layer in apart] == ["Conv", "MaxPool", "Sigmoid", "Add"]


def test_an_output_belongs_to_what_writes_it(model_of: ModelOf) -> None:
    model = load(model_of("float[n,4] x", "float[n,4] y", "y = Sigmoid(x)", {}))
    (layer,) = quantized_layers(model, {"y": NARROW})
    assert (layer.reads, layer.writes) == ((), ((0, "y"),))
