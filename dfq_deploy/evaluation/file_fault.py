"""A fault of a quantized file beside its scales: a bias, a node, the wrong float model."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from dfq_deploy.evaluation.metrics import finite

__all__ = ["FaultKind", "FileFault"]

FaultKind: TypeAlias = Literal["another-network", "node", "zero-point", "scale", "bias"]


@dataclass(frozen=True)
class FileFault:
    """What a quantized file has that the float model does not explain.

    Args:
        kind: ``another-network``, ``node`` (missing, added or changed), ``zero-point`` (of integers that should stand
            for a node), ``scale`` (that a bias follows from) or ``bias``.
        tensor: the bias, the activation, or the tensor that the node writes; empty for another network.
        node: as ``Conv 'stem'``; empty for another network.
        message: one sentence with the figures.
        snr: signal to noise in dB of what the layer or node writes, by this fault alone or with it.
    """

    kind: FaultKind
    tensor: str
    node: str
    message: str
    snr: float

    def __str__(self) -> str:
        """The sentence."""
        return self.message

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite figure is null."""
        return {
            "kind": self.kind,
            "tensor": self.tensor,
            "node": self.node,
            "message": self.message,
            "snr_db": finite(self.snr),
        }
