"""What papers say of data-free training of ResNet-20 below eight bits on CIFAR-10 and CIFAR-100, all layers quantized.

Weights per channel, asymmetric, and activations behind ReLU alone, of which the sums of residual branches, the pooled
features and the network's input are left in float. Read from SynQ (ICLR 2025), table 1, and the README of Qimera; DFQF
(ACML 2020) claims a drop of less than 1 point at w4a4, and its table has not been seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PUBLISHED", "Published"]

CIFAR10, CIFAR100 = "ResNet-20, CIFAR-10", "ResNet-20, CIFAR-100"

FLOAT = {CIFAR10: 93.89, CIFAR100: 70.33}
"""Top-1 of the float networks in percent."""


@dataclass(frozen=True)
class Published:
    """One method on one network.

    Args:
        network: of :data:`FLOAT`.
        top1: by bits, in percent.
    """

    network: str
    method: str
    top1: Mapping[str, float]

    def drop(self, bits: str) -> float | None:
        """Points below float; None where the paper gives no figure."""
        return FLOAT[self.network] - self.top1[bits] if bits in self.top1 else None


PUBLISHED = tuple(
    Published(network, method, top1)
    for network, methods in {
        CIFAR10: {
            "GDFQ (ECCV 2020)": {"w4a4": 90.11, "w3a3": 75.11},
            "Qimera (NeurIPS 2021)": {"w5a5": 93.46, "w4a4": 91.26, "w3a3": 74.43},
            "IntraQ (CVPR 2022)": {"w4a4": 91.49, "w3a3": 77.07},
            "AdaDFQ (CVPR 2023)": {"w4a4": 92.31, "w3a3": 84.89},
            "HAST (CVPR 2023)": {"w4a4": 92.36, "w3a3": 86.34},
            "TexQ (NeurIPS 2023)": {"w4a4": 92.68, "w3a3": 86.47},
            "PLF (CVPR 2024)": {"w4a4": 92.47, "w3a3": 88.04},
            "SynQ (ICLR 2025)": {"w4a4": 92.76, "w3a3": 88.11},
        },
        CIFAR100: {
            "GDFQ (ECCV 2020)": {"w4a4": 63.75, "w3a3": 47.61},
            "Qimera (NeurIPS 2021)": {"w5a5": 69.02, "w4a4": 65.10, "w3a3": 46.13},
            "IntraQ (CVPR 2022)": {"w4a4": 64.98, "w3a3": 48.25},
            "AdaDFQ (CVPR 2023)": {"w4a4": 66.81, "w3a3": 52.74},
            "HAST (CVPR 2023)": {"w4a4": 66.68, "w3a3": 55.67},
            "TexQ (NeurIPS 2023)": {"w4a4": 67.18, "w3a3": 55.87},
            "PLF (CVPR 2024)": {"w4a4": 66.94, "w3a3": 57.03},
            "SynQ (ICLR 2025)": {"w4a4": 67.34, "w3a3": 57.28},
        },
    }.items()
    for method, top1 in methods.items()
)
