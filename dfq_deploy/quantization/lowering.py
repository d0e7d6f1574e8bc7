"""Rewrite operators that lack integer kernels into ones that have them."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dfq_deploy.graph.editing import Names, add_constant, drop_unused_initializers
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.passes.fuse_gelu import fuse_gelu
from dfq_deploy.graph.passes.short_hard_swish import shorten_hard_swishes
from dfq_deploy.graph.query import batch_normalizations, constant_of, name_of
from dfq_deploy.graph.traversal import weighted_after
from dfq_deploy.targets.target import Target

__all__ = ["lower"]

Floats = NDArray[np.float64]


def lower(model: ir.Model, target: Target) -> tuple[str, ...]:
    """Rewrite, in place, operators that would cost ``target`` speed or accuracy.

    Rules, each applied only if the target has integer kernels for the result:

    1. A BatchNormalization that was not folded becomes the equivalent 1x1 depthwise Conv. In integers, with the Relu
       after it, it is faster than dequantizing and quantizing again, and one scale for each channel represents its
       factors exactly. Not applied if activations stay float between weighted operators, as for TensorRT.
    2. ReduceMean over height and width becomes GlobalAveragePool.
    3. A 1x1 Conv of one pixel that no weighted node follows (the last layer of a classifier) becomes Gemm, whose kernel
       writes float: logits then need no range.
    4. If only the inputs of weighted operators are quantized, and both an activation function and a weighted operator
       or Add read the same output, the latter reads it through an Identity. Otherwise Q and DQ would separate the
       activation function from the operator into which it is folded.
    5. A PRelu with one slope for all channels (torch's default) becomes the equivalent LeakyRelu, which has an integer
       kernel where PRelu has none: with float PRelu, networks of 3x3 convolutions of 16 to 64 channels took 1.4 to 3.7
       times as long (ONNX Runtime 1.31.1, one thread of an AVX-512 VNNI CPU). One with a slope for each channel
       becomes max(x, a x), and min(x, a x) where slopes exceed 1, where the target computes it in float between integer
       kernels: ONNX Runtime's PRelu takes six times as long.
    6. An Add of two activations before a LayerNormalization becomes a Sum for ONNX Runtime's CPU provider, which would
       fuse both to SkipLayerNormalization, 1.6 to 6 times as slow as the two from 16 tokens on.
    7. A hard swish of four operators becomes one of two (:mod:`dfq_deploy.graph.passes.short_hard_swish`), if the
       target computes it in float between integer kernels.
    8. If the target must run the whole graph in integers, a BatchNormalization that was not folded becomes a depthwise
       Conv at rank 3 too, and Mul and Add at any other rank: its parameters would stay float.
    9. A computed bias, which no int32 can store, is added after the Conv or Gemm instead, if the target adds in
       integers: the layer would stay float.
    10. A Gelu that is written with Erf becomes ONNX Runtime's Gelu, if the target has that and no Erf.

    The output of a rewritten node keeps its name.

    Returns:
        the names of the rewritten nodes, rule by rule.
    """
    whole = target.whole_ops or frozenset()
    rewritten: list[str | None] = [*fuse_gelu(model)] if "com.microsoft::Gelu" in whole and "Erf" not in whole else []
    names = Names(model.graph)
    for node in batch_normalizations(model) if "Conv" in target.quantized_ops and target.style != "inputs" else []:
        rewritten += [node.name] if _to_depthwise(model.graph, node, target, names) else []
    for node in batch_normalizations(model) if target.style == "everything" else []:
        rewritten += [node.name] if _to_scale_and_shift(model.graph, node, names) else []
    for node in list(model.graph) if not target.float_bias and "Add" in target.quantized_ops else []:
        rewritten += [node.name] if _add_bias(model.graph, node, names) else []
    for node in list(model.graph) if "GlobalAveragePool" in target.quantized_ops else []:
        rewritten += [node.name] if _to_pool(model.graph, node, names) else []
    for node in list(model.graph) if "Gemm" in target.quantized_ops & target.float_output_ops else []:
        rewritten += [node.name] if _to_gemm(model.graph, node, names) else []
    for node in list(model.graph) if target.style == "inputs" else []:
        rewritten += [node.name] if _add_branch(model.graph, node, target, names) else []
    for node in list(model.graph) if "LeakyRelu" in target.quantized_ops else []:
        rewritten += [node.name] if _to_leaky(model.graph, node, target, names) else []
    for node in list(model.graph.all_nodes()) if target.separate_residuals else []:
        rewritten += [node.name] if _to_sum(node, names) else []
    rewritten += shorten_hard_swishes(model) if target.style == "kernels" and target.whole_ops is None else []
    drop_unused_initializers(model.graph)
    return tuple(name or "" for name in rewritten)


def _shape(value: ir.Value | None) -> list[int | ir.SymbolicDim] | None:
    return None if value is None or value.shape is None else list(value.shape)


def _to_depthwise(graph: ir.Graph, node: ir.Node, target: Target, names: Names) -> bool:
    shape, found = _shape(node.inputs[0]), _scale_and_shift(graph, node)
    ranks = (3, 4) if target.style == "everything" else (4,)
    if shape is None or len(shape) not in ranks or found is None or not _feeds_integers(node, target):
        return False
    factor, offset = found
    ones = [1] * (len(shape) - 2)
    weight = add_constant(graph, names.fresh(f"{node.name}_weight"), factor.reshape(-1, 1, *ones))
    bias = add_constant(graph, names.fresh(f"{node.name}_bias"), offset)
    conv = ir.node("Conv", [node.inputs[0], weight, bias], {"group": len(factor), "kernel_shape": ones})
    _replace(graph, node, [conv], names)
    return True


def _to_scale_and_shift(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    shape, found = _shape(node.inputs[0]), _scale_and_shift(graph, node)
    if shape is None or len(shape) < 2 or found is None:
        return False
    factor, offset = (
        add_constant(graph, names.fresh(f"{node.name}_{name}"), array.reshape(-1, *[1] * (len(shape) - 2)))
        for name, array in zip(("scale", "shift"), found, strict=True)
    )
    product = ir.node("Mul", [node.inputs[0], factor])
    product.outputs[0].shape = node.outputs[0].shape
    _replace(graph, node, [product, ir.node("Add", [product.outputs[0], offset])], names)
    return True


def _scale_and_shift(graph: ir.Graph, node: ir.Node) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Factor and offset of each channel that a BatchNormalization of constants applies; None for any other."""
    constants = [constant_of(value) for value in node.inputs[1:5]]
    if node.graph is not graph or None in constants or node.attributes.get_int("training_mode", 0) != 0:
        return None
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    scale, shift, mean, variance = (c.numpy().astype(np.float64) for c in constants if c is not None)
    factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return factor.astype(np.float32), (shift - mean * factor).astype(np.float32)


def _add_bias(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    bias = node.inputs[2] if is_op(node, WEIGHTED_OPS) and len(node.inputs) > 2 else None
    shape = _shape(node.outputs[0])
    if bias is None or constant_of(bias) is not None or constant_of(node.inputs[1]) is None or shape is None:
        return False
    if bias.dtype != ir.DataType.FLOAT or node.attributes.get_float("beta", 1.0) != 1.0:
        return False
    attributes = {name: attribute.value for name, attribute in node.attributes.items() if name != "beta"}
    product = ir.node(node.op_type, node.inputs[:2], attributes)
    product.outputs[0].shape = node.outputs[0].shape
    steps, added = [product], bias
    if not is_op(node, "Gemm") and len(shape) > 2:
        axes = add_constant(graph, names.fresh(f"{node.name}_axes"), np.arange(1, len(shape) - 1))
        steps.append(ir.node("Unsqueeze", [bias, axes]))
        added = steps[-1].outputs[0]
        added.shape = ir.Shape([*(bias.shape or [None]), *[1] * (len(shape) - 2)])
    _replace(graph, node, [*steps, ir.node("Add", [product.outputs[0], added])], names)
    return True


def _feeds_integers(node: ir.Node, target: Target) -> bool:
    """Return True if an operator with an integer kernel reads the output, directly or after a Relu or Clip."""
    readers = [use.node for use in node.outputs[0].uses()]
    for reader in list(readers):
        if is_op(reader, target.fused_activations):
            readers += [use.node for use in reader.outputs[0].uses()]
    return any(is_op(reader, target.quantized_ops | target.passing_ops) for reader in readers)


def _to_pool(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    shape = _shape(node.inputs[0]) if is_op(node, "ReduceMean") else None
    if shape is None or len(shape) != 4 or node.outputs[0].dtype != ir.DataType.FLOAT:
        return False
    axes = node.attributes.get_ints("axes")
    if axes is None and len(node.inputs) > 1:
        constant = constant_of(node.inputs[1])
        axes = None if constant is None else constant.numpy().tolist()
    if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        return False
    steps = [ir.node("GlobalAveragePool", [node.inputs[0]])]
    if not node.attributes.get_int("keepdims", 1):
        steps.append(ir.node("Flatten", [steps[0].outputs[0]], {"axis": 1}))
    _replace(graph, node, steps, names)
    return True


def _to_gemm(graph: ir.Graph, node: ir.Node, names: Names) -> bool:
    shape = _shape(node.inputs[0]) if is_op(node, "Conv") else None
    weight = constant_of(node.inputs[1]) if is_op(node, "Conv") else None
    if shape is None or shape[2:] != [1, 1] or weight is None or weight.dtype != ir.DataType.FLOAT:
        return False
    groups, pads = node.attributes.get_int("group", 1), node.attributes.get_ints("pads", ())
    if groups != 1 or any(pads or ()) or weight.shape.numpy()[2:] != (1, 1) or weighted_after(node):
        return False
    bias = [value for value in node.inputs[2:3] if value is not None]
    if any(constant_of(value) is None for value in bias):
        return False
    matrix = add_constant(graph, names.fresh(f"{name_of(node.inputs[1])}_matrix"), weight.numpy()[:, :, 0, 0].copy())
    axes = add_constant(graph, names.fresh(f"{node.name}_axes"), np.array([2, 3], np.int64))
    flatten = ir.node("Flatten", [node.inputs[0]], {"axis": 1})
    gemm = ir.node("Gemm", [flatten.outputs[0], matrix, *bias], {"transB": 1})
    _replace(graph, node, [flatten, gemm, ir.node("Unsqueeze", [gemm.outputs[0], axes])], names)
    return True


def _to_leaky(graph: ir.Graph, node: ir.Node, target: Target, names: Names) -> bool:
    if node.op_type != "PRelu" or node.op_type in target.quantized_ops:
        return False
    slope, read, written = constant_of(node.inputs[1]), _shape(node.inputs[0]), _shape(node.outputs[0])
    if slope is None or slope.dtype != ir.DataType.FLOAT or not slope.size or read is None or read != written:
        return False
    slopes = np.unique(slope.numpy())
    if len(slopes) == 1:
        _replace(graph, node, [ir.node("LeakyRelu", [node.inputs[0]], {"alpha": float(slopes[0])})], names)
        return True
    if target.style != "kernels" or target.whole_ops is not None:
        return False
    x, steps = node.inputs[0], list[ir.Node]()
    for operator, factors in (("Max", np.minimum(slope.numpy(), 1)), ("Min", np.maximum(slope.numpy(), 1))):
        if (factors != 1).any():
            product = ir.node("Mul", [x, add_constant(graph, names.fresh(f"{node.name}_slopes"), factors)])
            steps += [product, ir.node(operator, [x, product.outputs[0]])]
            x = steps[-1].outputs[0]
            product.outputs[0].shape = x.shape = node.outputs[0].shape
    _replace(graph, node, steps, names)
    return True


def _to_sum(node: ir.Node, names: Names) -> bool:
    graph, readers = node.graph, [use.node for use in node.outputs[0].uses()]
    operands = [value for value in node.inputs if value is not None and constant_of(value) is None]
    normalized = any(is_op(reader, "LayerNormalization") for reader in readers) or (
        any(is_op(reader, "ReduceMean") for reader in readers) and any(is_op(reader, "Sub") for reader in readers)
    )
    if not is_op(node, "Add") or not normalized or len(operands) != 2 or not isinstance(graph, ir.Graph):
        return False
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return False
    _replace(graph, node, [ir.node("Sum", operands)], names)
    return True


def _add_branch(graph: ir.Graph, node: ir.Node, target: Target, names: Names) -> bool:
    if not is_op(node, WEIGHTED_OPS):
        return False
    value = node.outputs[0]
    uses = [use for use in value.uses() if is_op(use.node, WEIGHTED_OPS) or is_op(use.node, "Add")]
    if not uses or all(not is_op(use.node, target.fused_activations) for use in value.uses()):
        return False
    identity = ir.node("Identity", [value], name=names.fresh(f"{node.name}_Identity"))
    branch = identity.outputs[0]
    branch.name, branch.type, branch.shape = names.fresh(f"{value.name}_branch"), value.type, value.shape
    graph.insert_after(node, [identity])
    for use in uses:
        use.node.replace_input_with(use.idx, branch)
    return True


def _replace(graph: ir.Graph, node: ir.Node, steps: list[ir.Node], names: Names) -> None:
    """Replace ``node`` by ``steps``; the output of the last step takes over name, type and consumers."""
    old, new = node.outputs[0], steps[-1].outputs[0]
    for step in steps:
        step.name = names.fresh(f"{node.name}_{step.op_type}")
        step.outputs[0].name = names.fresh(f"{step.name}_output")
        step.outputs[0].type = old.type
    graph.insert_before(node, steps)
    name, new.shape = old.name, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    old.name, new.name = None, name
