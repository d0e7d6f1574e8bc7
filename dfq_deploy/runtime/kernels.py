"""Count the layers that run in integers, in the graph that ONNX Runtime optimizes."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir
import onnxruntime as ort

from dfq_deploy.errors import DfqError
from dfq_deploy.graph.large_models import weight_bytes
from dfq_deploy.graph.operators import operator_of
from dfq_deploy.graph.query import constant_of
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.runtime.kernel_count import Kernel, KernelCount
from dfq_deploy.runtime.layers import is_layer, kind_of_node, macs_of, weights_of
from dfq_deploy.runtime.plugin_nodes import plugin_nodes
from dfq_deploy.runtime.session import Session, runtime_message
from dfq_deploy.runtime.tagged import Tagged, tag
from dfq_deploy.runtime.tensorrt import rtx

__all__ = ["SAME_KERNELS", "conversions", "count_kernels", "is_quantized_layer", "layer_macs"]

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


def count_kernels(source: ModelSource, target: str = "cpu") -> KernelCount:
    """Count which layers of a file, quantized or float, run in integers.

    For the targets of :data:`SAME_KERNELS`, the graph is read that ONNX Runtime's CPU provider optimizes and runs; for
    ``tensorrt`` the list of layers that TensorRT-RTX's compiler writes, if that is installed. For other targets, and if
    that graph is not available, a layer counts as integer if its activation and its weight are
    dequantized directly before it.

    Raises:
        ModelError: the file does not exist, or is not an ONNX model.
    """
    tagged = tag(source)
    if target == "tensorrt" and rtx.rtx_version():
        return _compiled(tagged)
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
    kernels = tuple(_kernel(node, tagged) for node in nodes if _is_counted(node, tagged))
    return KernelCount(kernels, conversions(nodes), _between(graph, tagged), runtime)


def _is_counted(node: ir.Node, tagged: Tagged) -> bool:
    """True for a layer; not for a Conv that the optimizer made of a scale."""
    return is_layer(node) and not tagged.only_scales(node.name or "")


def _compiled(tagged: Tagged) -> KernelCount:
    """Count the layers in the engine that TensorRT-RTX builds, which needs no GPU."""
    from dfq_deploy.runtime.tensorrt.engine_layers import count_in_engine

    engine = f"TensorRT-RTX {rtx.rtx_version()} for SM{rtx.CHECKED}"
    try:
        built = rtx.compiled(tagged.model, rtx.CHECKED)
    except DfqError as problem:
        return _by_placement(tagged, "tensorrt", f"{engine} was not asked: {problem}")
    if built.problems:
        return _by_placement(tagged, "tensorrt", f"{engine} refuses it")
    if not built.layers:
        return _by_placement(tagged, "tensorrt", f"{engine} lists no layers")
    return count_in_engine(tagged, built.layers, engine)


def _optimized(model: ir.Model) -> ir.Model:
    """Return the optimized graph that ONNX Runtime runs."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(path)
        Session(model, options, ["CPUExecutionProvider"], exact=False)
        return ir.load(path)


def _kernel(node: ir.Node, tagged: Tagged) -> Kernel:
    index, kind = tagged.find(node.name or ""), kind_of_node(node)
    dequantized = kind == "float" and is_quantized_layer(node)
    if index is None:
        name = node.name or str(node.outputs[0].name)
        return Kernel(name, node.op_type, node.op_type, kind, dequantized=dequantized, weights=weights_of(node))
    layer = tagged.nodes[index]
    macs, weights = layer_macs(layer, tagged), max(weights_of(layer), weights_of(node))
    return Kernel(tagged.names[index], layer.op_type, node.op_type, kind, macs, dequantized, weights)


def layer_macs(node: ir.Node, tagged: Tagged) -> int | None:
    """Return the multiply-accumulates; None also inside a Loop, Scan or If, which run any number of times."""
    return macs_of(node) if node.graph is tagged.model.graph else None


def _by_placement(tagged: Tagged, runtime: str, reason: str) -> KernelCount:
    kernels = []
    for name, node in zip(tagged.names, tagged.nodes, strict=True):
        if not is_layer(node):
            continue
        kind, dequantized = kind_of_node(node), [is_dequantized(value) for value in node.inputs[:2]]
        if kind == "float" and len(dequantized) > 1 and all(dequantized):
            kind = "integer"
        costs = kind == "float" and is_quantized_layer(node)
        macs, weights = layer_macs(node, tagged), weights_of(node)
        kernels.append(Kernel(name, node.op_type, node.op_type, kind, macs, costs, weights))
    return KernelCount(tuple(kernels), conversions(tagged.nodes), (), runtime, reason)


def conversions(nodes: Iterable[ir.Node]) -> int:
    """Count Q and DQ nodes, including those of weights and biases that the optimizer did not remove."""
    return sum(node.op_type in LINEAR for node in nodes)


def is_quantized_layer(node: ir.Node) -> bool:
    """Return True if a layer reads dequantized values, and its weight is no constant in float."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    return constant_of(weight) is None and any(is_dequantized(value) for value in node.inputs)


def is_dequantized(value: ir.Value | None) -> bool:
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
