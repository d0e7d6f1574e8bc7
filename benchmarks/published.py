"""What papers say of data-free training below eight bits on CIFAR-10: ResNet-20 at float 93.89, all layers quantized.

Weights per channel, asymmetric, and activations behind ReLU alone, of which the sums of residual branches, the pooled
features and the network's input are left in float. Read from SynQ (ICLR 2025), table 1, and the README of Qimera; DFQF
(ACML 2020) claims a drop of less than 1 point at w4a4, and its table has not been seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]

FLOAT = 93.89


@dataclass(frozen=True)
class Published:
    """One method.

    Args:
        top1: by bits, in percent.
    """

    network: str
    method: str
    top1: Mapping[str, float]

    def drop(self, bits: str) -> float | None:
        """Points below float; None where the paper gives no figure."""
        return FLOAT - self.top1[bits] if bits in self.top1 else None


PUBLISHED = tuple(
    Published("ResNet-20", method, top1)
    for method, top1 in {
        "GDFQ (ECCV 2020)": {"w4a4": 90.11, "w3a3": 75.11},
        "Qimera (NeurIPS 2021)": {"w5a5": 93.46, "w4a4": 91.26, "w3a3": 74.43},
        "IntraQ (CVPR 2022)": {"w4a4": 91.49, "w3a3": 77.07},
        "AdaDFQ (CVPR 2023)": {"w4a4": 92.31, "w3a3": 84.89},
        "HAST (CVPR 2023)": {"w4a4": 92.36, "w3a3": 86.34},
        "TexQ (NeurIPS 2023)": {"w4a4": 92.68, "w3a3": 86.47},
        "PLF (CVPR 2024)": {"w4a4": 92.47, "w3a3": 88.04},
        "SynQ (ICLR 2025)": {"w4a4": 92.76, "w3a3": 88.11},
    }.items()
)
