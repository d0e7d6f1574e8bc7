"""Tell whether this processor computes products of 8-bit integers exactly."""

from functools import cache

__all__ = ["saturates_products"]

EXACT = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Instructions that add products of u8 and s8 in 32 bits; older ones add two of them in 16 bits, which saturate."""


@cache
def saturates_products() -> bool:
    """True on x86 processors without VNNI: those before about 2019, and virtual machines that hide it."""
    import torch

    found = torch.cpu.get_capabilities()
    return str(found.get("architecture")) in ("x86", "x86_64") and not any(found.get(name) for name in EXACT)
