"""The fake-quantized twin: what the quantized file will compute, in torch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.twin import Hook

__all__ = ["fake_quantizers"]


def fake_quantizers(encodings: Mapping[str, Encoding], device: torch.device | str = "cpu") -> dict[str, Hook]:
    """Hooks that round every encoded tensor, weights included, to its integers and back.

    ``twin.run(feeds, hooks=fake_quantizers(encodings))`` is the student. Gradients pass straight through
    inside the range and are zero outside of it.
    """
    return {name: _fake_quantizer(encoding, torch.device(device)) for name, encoding in encodings.items()}


def _fake_quantizer(encoding: Encoding, device: torch.device) -> Hook:
    low, high = encoding.qtype.qmin, encoding.qtype.qmax
    if encoding.axis is None:
        scale, zero = float(encoding.scale), int(encoding.zero_point)
        return lambda values: torch.fake_quantize_per_tensor_affine(values, scale, zero, low, high)
    axis = encoding.axis
    scales = torch.from_numpy(encoding.scale).to(device)
    zeros = torch.from_numpy(encoding.zero_point).to(device)

    def per_channel(values: Tensor) -> Tensor:
        return torch.fake_quantize_per_channel_affine(values, scales, zeros, axis, low, high)

    return per_channel
