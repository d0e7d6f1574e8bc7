"""Decide where bfloat16 is used."""

from contextlib import AbstractContextManager

import torch

__all__ = ["autocast", "has_fast_bfloat16"]


def has_fast_bfloat16(device: torch.device) -> bool:
    """True if the hardware has bfloat16 convolutions: NVIDIA from Ampere on, x86 with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """A bfloat16 autocast context, disabled if the hardware has no fast bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_fast_bfloat16(device))
