"""Count the layers that run in integers, in the graph that ONNX Runtime optimizes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from dfq_deploy.graph.large_models import weight_bytes
from dfq_deploy.graph.operators import operator_of
from dfq_deploy.graph.query import constant_of
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.runtime.layers import Kind, is_layer, kind_of_node, macs_of
from dfq_deploy.runtime.plugin_nodes import plugin_nodes
from dfq_deploy.runtime.session import Session, runtime_message
from dfq_deploy.runtime.tagged import Tagged, tag

__all__ = ["SAME_KERNELS", "Kernel", "KernelCount", "count_kernels", "named"]

SAME_KERNELS = frozenset({"cpu", "web"})
"""Targets that run ONNX Runtime with the graph optimizations of this machine's CPU provider."""

LARGEST_WEIGHTS = 2**30
"""Largest size of all weights, in bytes, for which the optimized graph is written to disk and read back."""

MOVING_OPS = frozenset(
    {"Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Shape", "Size", "Slice", "Split"}
    | {"Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that only move or describe values."""

LINEAR = ("QuantizeLinear", "DequantizeLinear")


LISTED = 3
"""Number of layers that a message lists."""

FUSED_WAY_OUT = (
    "ONNX Runtime fuses a MatMul and the Add of its bias into a float Gemm; export the layer as Gemm where its input "
    "is of rank 2, or give the bias the shape [1, 1, N]"
)

FORM_WAY_OUT = (
    "ONNX Runtime has no integer kernel for such layers (a float bias, an output that is not quantized); quantize the "
    "float model for it: dfq-deploy calibrate --target cpu"
)


def named(kernels: "Sequence[Kernel]") -> str:
    """Return a list of layers for a message: ``Gemm 'fc', Conv 'stem', and 3 more``."""
    shown = ", ".join(f"{kernel.operator} '{kernel.name}'" for kernel in kernels[:LISTED])
    rest = len(kernels) - LISTED
    return shown + (f", and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class Kernel:
    """One layer and the kernel that runs it.

    Args:
        name, operator: those of the layer in the file, or of the kernel if the optimizer fused several layers.
        kernel: the operator that runs: ``QLinearConv``, ``FusedGemm``...
        kind: the type of its products.
        macs: multiply-accumulates for one sample; None if unknown.
        dequantized: True for a float kernel that reads DequantizeLinear: the layer is quantized in the file, but runs
            in float, with the additional cost of the conversion.
    """

    name: str
    operator: str
    kernel: str
    kind: Kind
    macs: int | None = None
    dequantized: bool = False


@dataclass(frozen=True)
class KernelCount:
    """The layers of a file and the kernels that a runtime uses.

    Args:
        kernels: one for each layer of the optimized graph, in order.
        conversions: number of QuantizeLinear and DequantizeLinear nodes in the optimized graph.
        between: names of the float nodes between a dequantization and a quantization that are neither layers nor only
            move values.
        runtime: display name of the runtime.
        reason: why layers were counted by the placement of Q and DQ; empty if the runtime's own graph was read.
    """

    kernels: tuple[Kernel, ...]
    conversions: int
    between: tuple[str, ...]
    runtime: str
    reason: str = ""

    @property
    def total(self) -> int:
        """Number of layers."""
        return len(self.kernels)

    @property
    def integer(self) -> int:
        """Number of layers that multiply integers."""
        return sum(kernel.kind == "integer" for kernel in self.kernels)

    @property
    def weight_only(self) -> int:
        """Number of layers that store integers and multiply floats."""
        return sum(kernel.kind == "weights" for kernel in self.kernels)

    @property
    def in_float(self) -> tuple[Kernel, ...]:
        """The layers that run in float, those with the most products first."""
        kernels = [kernel for kernel in self.kernels if kernel.kind == "float"]
        return tuple(sorted(kernels, key=lambda kernel: -(kernel.macs or 0)))

    @property
    def dequantized(self) -> tuple[Kernel, ...]:
        """The layers that are quantized in the file but run in float, those with the most products first.

        Such a layer is slower than one that is not quantized: its weight is dequantized in each run.
        """
        return tuple(kernel for kernel in self.in_float if kernel.dequantized)

    @property
    def share(self) -> float | None:
        """Fraction of all multiply-accumulates in integers, 0 to 1; None if one is unknown, or there are none."""
        sizes = [kernel.macs for kernel in self.kernels]
        if not sizes or None in sizes or not sum(size or 0 for size in sizes):
            return None
        integer = sum(kernel.macs or 0 for kernel in self.kernels if kernel.kind == "integer")
        return integer / sum(size or 0 for size in sizes)

    @property
    def float_share(self) -> float:
        """Fraction of all multiply-accumulates in float, 0 to 1; fraction of the layers if one is unknown."""
        sizes = [kernel.macs for kernel in self.kernels]
        total = sum(size or 0 for size in sizes)
        if None in sizes or not total:
            return len(self.in_float) / max(1, self.total)
        return sum(kernel.macs or 0 for kernel in self.in_float) / total

    @property
    def way_out(self) -> str:
        """How to avoid the layers of :attr:`dequantized`; empty if there are none."""
        if any(kernel.operator == "MatMul" for kernel in self.dequantized):
            return FUSED_WAY_OUT
        return FORM_WAY_OUT if self.dequantized else ""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as ``--json`` prints it."""
        return {
            "integer": self.integer,
            "weight_only": self.weight_only,
            "total": self.total,
            "integer_share": self.share,
            "conversions": self.conversions,
            "kernels": dict(Counter(kernel.kernel for kernel in self.kernels)),
            "in_float": [vars(kernel) for kernel in self.in_float],
            "between": list(self.between),
            "runtime": self.runtime,
            "by_placement": self.reason,
        }

    def __str__(self) -> str:
        """``2 of 3 layers in INT8 (66.7 % of the products)``, with the reason if the runtime's graph was not read."""
        parts = [f"{self.integer} of {self.total} layers in INT8"]
        if self.share is not None and self.integer < self.total:
            parts.append(f" ({100 * self.share:.1f} % of the products)")
        if self.weight_only:
            parts.append(f", {self.weight_only} with integer weights, float products")
        if self.reason:
            parts.append(f", by the placement of Q and DQ ({self.reason})")
        return "".join(parts)


def count_kernels(source: ModelSource, target: str = "cpu") -> KernelCount:
    """Count which layers of a file, quantized or float, run in integers.

    For the targets of :data:`SAME_KERNELS`, the graph is read that ONNX Runtime's CPU provider optimizes and runs. For
    other targets, and if that graph is not available, a layer counts as integer if its activation and its weight are
    dequantized directly before it.

    Raises:
        ModelError: the file does not exist, or is not an ONNX model.
    """
    tagged = tag(source)
    if target not in SAME_KERNELS:
        return _by_placement(tagged, target, f"{target}'s own graph cannot be read here")
    runtime = f"ONNX Runtime {ort.__version__} on CPU"
    if weight_bytes(tagged.model) > LARGEST_WEIGHTS:
        return _by_placement(tagged, runtime, f"over {LARGEST_WEIGHTS / 1e9:.1f} GB of weights")
    if unknown := plugin_nodes(tagged.model):
        names = ", ".join(sorted(set(map(operator_of, unknown))))
        return _by_placement(tagged, runtime, f"ONNX Runtime does not have {names}")
    try:
        graph = _optimized(tagged.model).graph
    except Exception as problem:  # ONNX Runtime's exceptions have no base class of their own
        return _by_placement(tagged, runtime, f"ONNX Runtime cannot load it: {runtime_message(problem)}")
    nodes = list(graph.all_nodes())
    kernels = tuple(_kernel(node, tagged) for node in nodes if is_layer(node))
    return KernelCount(kernels, _conversions(nodes), _between(graph, tagged), runtime)


def _optimized(model: ir.Model) -> ir.Model:
    """Return the optimized graph that ONNX Runtime runs."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(path)
        Session(model, options, ["CPUExecutionProvider"])
        return ir.load(path)


def _kernel(node: ir.Node, tagged: Tagged) -> Kernel:
    index, kind = tagged.find(node.name or ""), kind_of_node(node)
    dequantized = kind == "float" and any(_is_dequantized(value) for value in node.inputs)
    if index is None:
        return Kernel(node.name or str(node.outputs[0].name), node.op_type, node.op_type, kind, dequantized=dequantized)
    layer = tagged.nodes[index]
    return Kernel(tagged.names[index], layer.op_type, node.op_type, kind, _macs(layer, tagged), dequantized)


def _macs(node: ir.Node, tagged: Tagged) -> int | None:
    """Return the multiply-accumulates; None also inside a Loop, Scan or If, which run any number of times."""
    return macs_of(node) if node.graph is tagged.model.graph else None


def _by_placement(tagged: Tagged, runtime: str, reason: str) -> KernelCount:
    kernels = []
    for name, node in zip(tagged.names, tagged.nodes, strict=True):
        if not is_layer(node):
            continue
        kind, dequantized = kind_of_node(node), [_is_dequantized(value) for value in node.inputs[:2]]
        if kind == "float" and len(dequantized) > 1 and all(dequantized):
            kind = "integer"
        kernels.append(
            Kernel(name, node.op_type, node.op_type, kind, _macs(node, tagged), kind == "float" and any(dequantized))
        )
    return KernelCount(tuple(kernels), _conversions(tagged.nodes), (), runtime, reason)


def _conversions(nodes: Iterable[ir.Node]) -> int:
    """Count Q and DQ nodes, including those of weights and biases that the optimizer did not remove."""
    return sum(node.op_type in LINEAR for node in nodes)


def _is_dequantized(value: ir.Value | None) -> bool:
    """Return True if a DequantizeLinear writes ``value``, possibly followed by a reshape or transpose."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in ("Identity", "Reshape", "Transpose") and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "DequantizeLinear"


def _between(graph: ir.Graph, tagged: Tagged) -> tuple[str, ...]:
    """Return the names of float nodes on a path from integers to integers."""
    nodes = [node for node in graph if not is_layer(node) and not _is_integer(node)]
    after: set[ir.Node] = set()
    for node in nodes:
        if node.op_type not in ("Shape", "Size") and any(_dequantizes(p) or p in after for p in node.predecessors()):
            after.add(node)
    before: set[ir.Node] = set()
    for node in reversed(nodes):
        if any(reader.op_type == "QuantizeLinear" or reader in before for reader in node.successors()):
            before.add(node)
    return tuple(
        tagged.name(node.name or str(node.outputs[0].name))
        for node in nodes
        if node in after and node in before and node.op_type not in MOVING_OPS
    )


def _is_integer(node: ir.Node) -> bool:
    return node.op_type in LINEAR or node.op_type.startswith("QLinear")


def _dequantizes(node: ir.Node) -> bool:
    """Return True for nodes with float output from integers: DQ of an activation, or a layer with integer products."""
    if node.op_type == "DequantizeLinear":
        return constant_of(node.inputs[0]) is None
    return is_layer(node) and kind_of_node(node) == "integer"
