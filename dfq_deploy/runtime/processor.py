"""Tell whether this processor computes products of 8-bit integers exactly."""

from functools import cache
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from dfq_deploy.runtime.kernel_count import KernelCount

__all__ = ["adds_exactly", "lacks_vnni", "saturation_warnings"]

EXACT = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Instructions that add products of u8 and s8 in 32 bits; older ones add two of them in 16 bits, which saturate."""

LARGEST = 64
"""Largest magnitude of weights for which they do not: twice 255 times 64 fits into 16 bits."""

SENTENCE = (
    "this processor has no VNNI, and ONNX Runtime's sums of integer products saturate on such; all figures here are of "
    'sessions that avoid it: options.add_session_config_entry("session.x64quantprecision", "1"). Set that wherever the '
    "file runs on such processors, or quantize with --bits w7a8, which needs no setting and is faster there"
)


@cache
def lacks_vnni() -> bool:
    """True on x86 processors without VNNI: those before about 2019, and virtual machines that hide it."""
    import torch

    found = torch.cpu.get_capabilities()
    return str(found.get("architecture")) in ("x86", "x86_64") and not any(found.get(name) for name in EXACT)


def adds_exactly(path: Path) -> bool:
    """True where no sum of products of a file saturates on this processor, whatever the session's options are."""
    if not lacks_vnni():
        return True
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except DecodeError:  # ONNX Runtime says what is wrong with it
        return False
    narrow = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    return not any(uses_external_data(tensor) or _is_large(numpy_helper.to_array(tensor)) for tensor in narrow)


def saturation_warnings(path: Path, count: KernelCount | None) -> tuple[str, ...]:
    """What to say on this processor of a file with these kernels: a sentence, or nothing."""
    if count is None or count.reason or count.listed or not count.integer:
        return ()
    return () if adds_exactly(path) else (SENTENCE,)


def _is_large(weights: NDArray[Any]) -> bool:
    return bool(weights.size) and max(-int(weights.min()), int(weights.max())) > LARGEST
