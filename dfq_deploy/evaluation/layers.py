"""Where a quantized model loses accuracy: float against quantized, tensor by tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from dfq_deploy.encodings import Encoding
from dfq_deploy.evaluation.metrics import OutputTally, finite
from dfq_deploy.evaluation.runner import Runnable, Runner, slices
from dfq_deploy.samples import Samples

__all__ = ["TensorDistance", "tensor_distances"]

SLICE_BYTES = 2**21
"""Of inputs: every tensor of the model is in memory at once, which is some fifty times as much."""


@dataclass(frozen=True)
class TensorDistance:
    """One activation, float against quantized.

    Args:
        name: of the tensor.
        snr: signal to noise in dB, with the errors of everything before it.
        clipped: share of its float values that lie outside of its encoding's range, 0 to 1.
    """

    name: str
    snr: float
    clipped: float

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite SNR is null."""
        return {"name": self.name, "snr_db": finite(self.snr), "clipped": self.clipped}


def tensor_distances(
    reference: onnx.ModelProto,
    quantized: onnx.ModelProto | Runnable,
    encodings: Mapping[str, Encoding],
    samples: Samples,
) -> tuple[TensorDistance, ...]:
    """Run both models with their quantized activations as outputs.

    Args:
        reference: the float model, with the names that ``encodings`` use.
        quantized: the same model with QuantizeLinear and DequantizeLinear.
        encodings: by tensor name; weights and tensors that either model lacks are left out.
        samples: a few dozen are enough.

    Returns:
        one entry for each tensor, in the graph's order.
    """
    if isinstance(quantized, bytes):
        quantized = onnx.load_from_string(quantized)
    elif not isinstance(quantized, onnx.ModelProto):
        quantized = onnx.load(quantized)
    rounded = _dequantized(quantized)
    made = [*(value.name for value in reference.graph.input), *(o for n in reference.graph.node for o in n.output)]
    names = [name for name in made if name in encodings and name in rounded]
    if not names:
        return ()
    first = Runner(_exposing(reference, names), name="the float model")
    second = Runner(_exposing(quantized, [rounded[name] for name in names]), name="the quantized model")
    tallies = [OutputTally() for _ in names]
    outside, counted = np.zeros(len(names)), np.zeros(len(names))
    for part in slices(samples.images, SLICE_BYTES):
        for feed, _ in first.batches(samples.part(part)):
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


def _dequantized(model: onnx.ModelProto) -> dict[str, str]:
    """Float tensor -> the tensor that its readers get after Q and DQ."""
    sources = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    outputs = {value.name for value in model.graph.output}
    found = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in sources:
            # A quantized graph output keeps its name behind the DQ; the tensor before the Q has a new one.
            name = node.output[0] if node.output[0] in outputs else sources[node.input[0]]
            found[name] = node.output[0]
    return found


def _exposing(model: onnx.ModelProto, names: list[str]) -> bytes:
    """The model with exactly ``names`` as outputs; an input among them goes through an Identity."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    fed = {value.name for value in copy.graph.input}
    for name in names:
        shown = f"{name}_shown" if name in fed else name
        if name in fed:
            copy.graph.node.append(onnx.helper.make_node("Identity", [name], [shown]))
        copy.graph.output.append(onnx.ValueInfoProto(name=shown))
    return bytes(copy.SerializeToString())
