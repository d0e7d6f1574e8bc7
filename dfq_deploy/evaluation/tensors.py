"""Compare float and quantized values tensor by tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from dfq_deploy.encodings import Encoding
from dfq_deploy.evaluation.metrics import finite
from dfq_deploy.evaluation.output_distance import OutputTally
from dfq_deploy.graph.query import name_of
from dfq_deploy.graph.reading import read_mapped
from dfq_deploy.quantization.qdq_reader import quantizer_of
from dfq_deploy.runtime.runner import Runnable, Runner, slices
from dfq_deploy.runtime.session import expose_tensors
from dfq_deploy.samples.samples import Samples

__all__ = ["TensorDistance", "tensor_distances"]

SLICE_BYTES = 2**21
"""Bytes of inputs in one run: all tensors of the model are in memory at once, about fifty times as much."""


@dataclass(frozen=True)
class TensorDistance:
    """Distance between float and quantized values of one activation.

    Args:
        name: of the tensor.
        snr: signal to noise in dB, including the errors of all layers before it.
        clipped: share of its float values outside the range of its encoding, 0 to 1.
    """

    name: str
    snr: float
    clipped: float

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite SNR is null."""
        return {"name": self.name, "snr_db": finite(self.snr), "clipped": self.clipped}


def tensor_distances(
    reference: onnx.ModelProto | ir.Model,
    quantized: onnx.ModelProto | Runnable,
    encodings: Mapping[str, Encoding],
    samples: Samples,
) -> tuple[TensorDistance, ...]:
    """Run both models with their quantized activations as outputs.

    Args:
        reference: the float model, with the names that ``encodings`` use.
        quantized: the same model with QuantizeLinear and DequantizeLinear.
        encodings: by tensor name; weights and tensors that either model lacks are left out.
        samples: some dozens are enough.

    Returns:
        one entry for each tensor, in the graph's order.
    """
    reference, quantized = _model(reference), _model(quantized)
    rounded = _dequantized(quantized)
    values = [*reference.graph.inputs, *(value for node in reference.graph for value in node.outputs)]
    names = [name for name in map(name_of, values) if name in encodings and name in rounded]
    if not names:
        return ()
    first = Runner(expose_tensors(reference, names), name="the float model")
    second = Runner(expose_tensors(quantized, [rounded[name] for name in names]), name="the quantized model")
    feeding = second if first.batch is None else first  # one of both may have a fixed batch
    tallies = [OutputTally() for _ in names]
    outside, counted = np.zeros(len(names)), np.zeros(len(names))
    for part in slices(samples.images, SLICE_BYTES):
        for feed, _ in feeding.batches(samples.part(part)):
            for index, (wanted, given) in enumerate(zip(first.feed(feed), second.feed(feed), strict=True)):
                span = encodings[names[index]].range
                tallies[index].add(wanted, given)
                outside[index] += np.count_nonzero((wanted < span.low) | (wanted > span.high))
                counted[index] += wanted.size
    shares = outside / np.maximum(counted, 1)
    distances = [tally.distance(name) for name, tally in zip(names, tallies, strict=True)]
    return tuple(
        TensorDistance(distance.name, distance.snr, float(share))
        for distance, share in zip(distances, shares, strict=True)
    )


def _model(source: onnx.ModelProto | Runnable) -> ir.Model:
    if isinstance(source, ir.Model):
        return source
    if isinstance(source, bytes):
        source = onnx.load_from_string(source)
    return ir.from_proto(source) if isinstance(source, onnx.ModelProto) else read_mapped(ir.load(source), Path(source))


def _dequantized(model: ir.Model) -> dict[str, str]:
    """Float tensor -> the tensor after its Q, its Clip of the integers if any, and its DQ."""
    found = {}
    for node in model.graph:
        quantizer = quantizer_of(node)
        if quantizer is None:
            continue
        # A quantized graph output keeps its name behind the DQ; the tensor before the Q has a new one.
        output = node.outputs[0]
        found[name_of(output if output.is_graph_output() else quantizer.inputs[0])] = name_of(output)
    return found
