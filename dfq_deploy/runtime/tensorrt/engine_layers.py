"""The layers of an engine: read from TensorRT's log, and matched with the layers of the model."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dfq_deploy.runtime.kernel_count import Kernel, KernelCount
from dfq_deploy.runtime.kernels import conversions, is_quantized_layer, layer_macs
from dfq_deploy.runtime.layers import Kind, is_layer
from dfq_deploy.runtime.tagged import Tagged

__all__ = ["EngineLayer", "count_in_engine", "read_layers"]

LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<kernel>.*?), StreamId: .*?Metadata: (?P<metadata>.*)"
)
"""One layer, as the builder logs it with the profiling verbosity DETAILED."""

HEADING = "Layers:"

DATATYPE = re.compile(r"Datatype: (\w+)")

NODE = re.compile(r"\[ONNX Layer: (.*?)\]")

PRODUCTS = frozenset({"correlation", "gemm", "deconv", "convolution", "deconvolution", "runtime_fusion"})
"""Kinds of layers that multiply by weights, or two activations."""

PRODUCT_KERNELS = ("gemm", "mha")
"""What the names of other layers contain if they do: fused attention is one kernel."""

NARROW: dict[str, Kind] = {"Int8": "integer", "FP8": "float8"}
"""Types of the operands of a product -> the kind of the product."""


@dataclass(frozen=True)
class EngineLayer:
    """One kernel of an engine.

    Args:
        name: the engine's own.
        kind: what it computes: ``correlation`` (a convolution), ``gemm``, ``kgen`` (generated code).
        kernel: the tactic that was chosen.
        inputs, constants, outputs: the types of its tensors, by TensorRT's names: ``Int8``, ``Float``...
        nodes: names of the ONNX nodes that it computes, or parts of which it computes.
    """

    name: str
    kind: str
    kernel: str
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def multiplies(self) -> bool:
        """True for a product, by the kind of the layer or the name of its kernel."""
        return self.kind in PRODUCTS or any(part in self.name for part in PRODUCT_KERNELS)

    @property
    def product(self) -> Kind:
        """The kind of the product: that of its two operands if both are narrow, else ``float``.

        The second operand is the first constant, or the second input.
        """
        first = next(iter(self.inputs), "")
        seconds = {*self.constants[:1], *self.inputs[1:2]}
        return NARROW[first] if first in NARROW and first in seconds else "float"

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, for the report."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def read_layers(messages: Iterable[str]) -> tuple[EngineLayer, ...]:
    """Read the layers from messages of TensorRT's log; empty if none of them lists layers."""
    found = []
    for message in messages:
        if HEADING in message:
            found += [match for line in message.splitlines() if (match := LINE.match(line)) is not None]
    return tuple(_layer(match) for match in found)


def _layer(match: re.Match[str]) -> EngineLayer:
    inputs, constants, outputs = (tuple(DATATYPE.findall(match[side])) for side in ("inputs", "constants", "outputs"))
    nodes = tuple(NODE.findall(match["metadata"]))
    return EngineLayer(match["name"], match["kind"], match["kernel"], inputs, constants, outputs, nodes)


def count_in_engine(tagged: Tagged, layers: Sequence[EngineLayer], engine: str) -> KernelCount:
    """Count the layers of a model that an engine multiplies in INT8 or FP8.

    A layer counts if a product names it whose two operands have such a type; a layer that no product of the engine
    names is float.

    Args:
        tagged: the model of which the engine was built.
        engine: display name of the engine.
    """
    products: dict[str, list[EngineLayer]] = {}
    for layer in layers:
        for name in layer.nodes if layer.multiplies else ():
            products.setdefault(name, []).append(layer)
    kernels = []
    for name, node in zip(tagged.names, tagged.nodes, strict=True):
        if not is_layer(node):
            continue
        computing = products.get(str(node.name), [])
        narrow = [layer for layer in computing if layer.product != "float"]
        kind: Kind = narrow[0].product if narrow else "float"
        kernel = next((layer.kind for layer in (*narrow, *computing)), node.op_type)
        quantized = kind == "float" and is_quantized_layer(node)
        kernels.append(Kernel(name, node.op_type, kernel, kind, layer_macs(node, tagged), quantized))
    return KernelCount(tuple(kernels), conversions(tagged.nodes), (), engine, listed=True)
