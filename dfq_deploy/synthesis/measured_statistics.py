"""Put BatchNormalization back behind convolutions, with statistics measured on pictures."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.errors import ModelError
from dfq_deploy.graph.editing import Names, add_constant
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.runtime.activations import activations
from dfq_deploy.samples.batches import SampleBatches
from dfq_deploy.samples.samples import Samples

__all__ = ["with_measured_statistics"]

Floats = NDArray[np.float64]

EPSILON = 1e-5


def with_measured_statistics(model: ir.Model, samples: Samples) -> ir.Model:
    """A copy of ``model`` with a BatchNormalization behind each convolution, which computes the same outputs.

    Exporters fold BatchNormalization into the convolution before it, and its statistics are lost. Those of the
    convolution's output on ``samples`` take their place, and scale and shift are such that the values stay:
    ``scale = sqrt(var + eps)`` and ``shift = mean``. Methods that match statistics then match those of ``samples``.

    Raises:
        ModelError: no convolution has constant weights.
        SamplesError: ONNX Runtime cannot run the model on the samples.
    """
    model = model.clone()
    nodes = [node for node in model.graph if is_op(node, ("Conv", "ConvTranspose")) and _can_be_followed(node)]
    if not nodes:
        raise ModelError("the model has no convolution whose statistics could be measured; use --synth procedural")
    moments = {name_of(node.outputs[0]): _Moments() for node in nodes}
    for tensors in activations(model, list(moments), SampleBatches(model, samples)):
        for name, moment in moments.items():
            moment.add(tensors[name])
    names = Names(model.graph)
    for node in nodes:
        _follow(model.graph, node, moments[name_of(node.outputs[0])], names)
    return model


def _can_be_followed(node: ir.Node) -> bool:
    output = node.outputs[0]
    return constant_of(node.inputs[1]) is not None and not output.is_graph_output() and bool(output.uses())


@dataclass
class _Moments:
    """Mean and variance of one tensor (N, C, ...), channel by channel; slices are merged as by Chan et al. (1979)."""

    count: int = 0
    mean: Floats = field(default_factory=lambda: np.zeros(1))
    squares: Floats = field(default_factory=lambda: np.zeros(1))

    def add(self, array: NDArray[np.float32]) -> None:
        """Add a slice of the samples."""
        rows = np.moveaxis(array, 1, -1).reshape(-1, array.shape[1]).astype(np.float64)
        mean, total = rows.mean(axis=0), self.count + len(rows)
        shift = mean - self.mean
        self.squares = self.squares + np.square(rows - mean).sum(axis=0) + shift**2 * self.count * len(rows) / total
        self.mean = self.mean + shift * len(rows) / total
        self.count = total

    @property
    def variance(self) -> Floats:
        """The biased variance."""
        return self.squares / max(self.count, 1)


def _follow(graph: ir.Graph, node: ir.Node, moments: _Moments, names: Names) -> None:
    """Insert the BatchNormalization that keeps the values of a node's output."""
    output = node.outputs[0]
    scale = np.sqrt(moments.variance + EPSILON)
    arrays = {"scale": scale, "shift": moments.mean, "mean": moments.mean, "var": moments.variance}
    constants = [
        add_constant(graph, names.fresh(f"{output.name}_{name}"), array.astype(np.float32))
        for name, array in arrays.items()
    ]
    inserted = ir.node("BatchNormalization", [output, *constants], {"epsilon": EPSILON})
    inserted.name = names.fresh(f"{output.name}_BatchNormalization")
    result = inserted.outputs[0]
    result.name, result.type, result.shape = names.fresh(f"{output.name}_normalized"), output.type, output.shape
    output.replace_all_uses_with(result)
    inserted.replace_input_with(0, output)
    graph.insert_after(node, inserted)
