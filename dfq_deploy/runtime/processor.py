"""Tell whether integer sums saturate on this processor."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import google.protobuf.message
import onnx_ir as ir

from dfq_deploy.graph.operators import is_integer_op, is_op
from dfq_deploy.runtime.kernel_count import KernelCount

__all__ = ["lacks_vnni", "saturates", "saturation_warnings"]

EXACT = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Instructions that add products of u8 and s8 in 32 bits; older ones add two of them in 16 bits, which saturate."""

LARGEST = 64
"""Largest magnitude of weights for which they do not: twice 255 times 64 fits into 16 bits."""

SENTENCE = (
    "this processor has no VNNI: there ONNX Runtime's integer sums saturate by default. The figures here are of "
    'sessions with options.add_session_config_entry("session.x64quantprecision", "1"), which avoids it, but not for '
    "weights that nodes share or that lie in a Loop, nor for s8 activations. Set that in your program for such "
    "processors, or quantize with --bits w7a8, which needs no option"
)


@cache
def lacks_vnni() -> bool:
    """True on x86 processors without VNNI: those before about 2019, and virtual machines that hide it."""
    import torch

    found = torch.cpu.get_capabilities()
    return str(found.get("architecture")) in ("x86", "x86_64") and not any(found.get(name) for name in EXACT)


def saturates(model: ir.Model) -> bool:
    """True where sums of integer products of the model may saturate on this processor by default.

    They do if activations are integers, and a weight in int8 is larger than :data:`LARGEST`.
    """
    if not lacks_vnni() or not any(map(_makes_integers, model.graph.all_nodes())):
        return False
    narrow = (tensor for tensor in _constants(model) if tensor.dtype == ir.DataType.INT8 and tensor.size)
    return any(max(-int(array.min()), int(array.max())) > LARGEST for array in (tensor.numpy() for tensor in narrow))


def saturation_warnings(path: Path, count: KernelCount | None) -> tuple[str, ...]:
    """What to say on this processor of a file with these kernels: a sentence, or nothing."""
    if count is None or count.reason or count.listed or not count.integer or not lacks_vnni():
        return ()
    try:
        model = ir.load(path)
    except google.protobuf.message.DecodeError:  # an .ort file: its weights are not read here
        return (SENTENCE,)
    return (SENTENCE,) if saturates(model) else ()


def _makes_integers(node: ir.Node) -> bool:
    """True for what quantizes activations, or multiplies quantized ones."""
    return is_integer_op(node) or is_op(node, ("QuantizeLinear", "com.microsoft.QuantizeLinear"))


def _constants(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """All constants of the model, those of bodies of Loop, Scan and If too."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
    for node in model.graph.all_nodes():
        if node.op_type == "Constant" and "value" in node.attributes:
            yield node.attributes["value"].as_tensor()
