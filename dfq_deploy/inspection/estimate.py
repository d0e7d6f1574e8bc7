"""Estimate which layers will run in integers: quantize with arbitrary ranges, and count."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.errors import ModelError
from dfq_deploy.graph.large_models import weight_bytes
from dfq_deploy.graph.operators import WEIGHTED_OPS
from dfq_deploy.plugins.contracts import Exporter
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.placement.place import Placement, encodings_of_weights, unify
from dfq_deploy.runtime.kernel_count import Kernel, KernelCount
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.targets.target import Target

__all__ = ["estimated_kernels"]

LARGEST = 2**28
"""Bytes of weights up to which a model is quantized for the estimate."""

STEP = 0.01
"""Difference between the ranges of two tensors: equal scales, which measured ranges never have, would let kernels
fuse."""


def estimated_kernels(model: ir.Model, placement: Placement, target: Target) -> KernelCount:
    """Count the layers that will run in integers in the quantized file.

    The kernels that a runtime chooses depend on where Q and DQ are and on which tensors share a scale, not on the
    scales. Decisions that calibration makes from measured values (a detection head that stays in float) are not
    included.

    Args:
        model: BatchNormalization folded, lowered for ``target``; not changed.
        placement: what is quantized in it.
    """
    if weight_bytes(model) > LARGEST:
        return _counted_by_placement(model, placement, target, f"over {LARGEST / 1e6:.0f} MB of weights")
    spans = {name: Range(-1 - STEP * index, 1 + STEP * index) for index, name in enumerate(placement.activations)}
    ranges = unify(spans, placement)
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in placement.activations.items()}
    encodings |= encodings_of_weights(model, placement, activations=encodings)
    exporter: Exporter = find_plugin("exporters", "qdq")()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "estimate.qdq.onnx"
        try:
            exporter.export(model, encodings, path)
        except ModelError as problem:
            return _counted_by_placement(model, placement, target, str(problem))
        return count_kernels(path, target.name)


def _counted_by_placement(model: ir.Model, placement: Placement, target: Target, reason: str) -> KernelCount:
    """Count by placement: every quantized layer counts as integer."""
    floats = {name for name, _, _ in placement.left_float}
    kernels = tuple(
        Kernel(str(node.name), node.op_type, node.op_type, "float" if node.name in floats else "integer")
        for node in model.graph.all_nodes()
        if node.op_type in WEIGHTED_OPS
    )
    return KernelCount(kernels, 0, (), target.runtime, reason)
