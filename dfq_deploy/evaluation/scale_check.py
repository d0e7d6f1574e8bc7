"""The check of one quantized tensor: how much noise its scale adds, and what causes it."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.evaluation.metrics import finite

__all__ = ["FAULT", "WRONG_BY", "Cause", "ScaleCheck", "excess_of", "power_of"]

FAULT = 15.0
"""dB of excess from which a scale counts as wrong: a range six times as wide as needed (8 times: 18 dB)."""

WIDE, COARSE = 4.5, 12.0
"""How many times wider than the values a range is, and dB of excess, from which its scale is worth a look. Ranges of
this package and of ONNX Runtime's quantizer are 2.1 times as wide as the values of eight pictures drawn by rule, at
most."""

WRONG_BY = 3.0
"""How many times too large or too small a scale is that is a fault by itself. Calibration on other inputs than real
ones clips by less: by 2.2 times in ResNet-20 on noise, by 1.2 on pictures by rule, neither of which costs top-1."""

MILD = 20.0
"""dB of signal to noise from which a range that clips by less does not hurt."""

RIGHT_SIZE = 0.5
"""Powers of two by which a scale may be off for its size not to be the fault."""

HARMLESS = 60.0
"""dB of signal to noise above which no scale counts as wrong, even if a better one exists."""

Cause: TypeAlias = Literal["", "zero point", "values"]
"""What is wrong beside the scale, where that is known; a wrong scale otherwise."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ScaleCheck:
    """The check of one quantized tensor of the file.

    Args:
        tensor: name of an activation in the float model, or of a weight in the file.
        kind: activation or weight.
        node: the weighted node that reads a weight; empty for an activation.
        bits: of its integers.
        excess: how much more noise its Q and DQ add than a good scale of the same bits, in dB.
        snr: signal to noise in dB of its Q and DQ on float values.
        factor: how many times too large the scale is; below 1 if it is too small.
        matched: whether the values are those of the float model; else they are the file's own, with all errors before
            them.
        cause: what is wrong if it is not the scale.
        detail: the rest of the sentence on that cause, as ``is 0, where its values need about 128``.
        room: how many times wider than the values the range of an activation is, beyond what its symmetry asks for.
    """

    tensor: str
    kind: Literal["activation", "weight"]
    node: str
    bits: int
    excess: float
    snr: float
    factor: float
    matched: bool = True
    cause: Cause = ""
    detail: str = ""
    room: float = 1.0

    @property
    def is_fault(self) -> bool:
        """True if another scale, zero point or other values would remove most of the noise."""
        return self.excess >= FAULT and self.snr < HARMLESS

    @property
    def is_mild(self) -> bool:
        """True if the range clips a little, as other inputs than real ones make it."""
        clips = self.kind == "activation" and not self.cause
        return (clips or self.is_scale) and self.snr >= MILD and 1 / WRONG_BY < self.factor < WRONG_BY

    @property
    def is_wide(self) -> bool:
        """True if the range is much wider than the values, but may have to be for others."""
        wide = self.matched and self.room >= WIDE and self.excess >= COARSE
        return wide and not self.is_fault and self.snr < HARMLESS

    @property
    def is_scale(self) -> bool:
        """True if the size of the scale is what is wrong."""
        return not self.cause and abs(math.log2(max(self.factor, 1e-30))) >= RIGHT_SIZE

    def __str__(self) -> str:
        """One sentence."""
        where = f" of {self.node}" if self.node else ""
        noise = f"{self.snr:.1f} dB signal to noise, where {self.bits} bits give {self.snr + self.excess:.1f}"
        if ", channel " in self.node:
            noise = f"{self.excess:.0f} dB more noise than {self.bits} bits give there"
            noise += f", and {self.snr:.1f} dB signal to noise in the whole weight"
        if self.cause == "zero point":
            return f"the zero point of {self.kind} '{self.tensor}'{where} {self.detail}: {noise}"
        if not self.is_scale:
            if self.kind == "activation":
                cause = "a zero point that does not fit, or values beyond those of the calibration"
                return (
                    f"activation '{self.tensor}'{where} is clipped beside a scale of the right size ({cause}): {noise}"
                )
            detail = f" ({self.detail})" if self.detail else ""
            cause = f"other values than float's, beside a scale of the right size{detail}"
            return f"weight '{self.tensor}'{where} has {cause}: {noise}"
        size = f"{self.factor:.2g} times too large" if self.factor >= 1 else f"{1 / self.factor:.2g} times too small"
        return (
            f"the scale of {self.kind} '{self.tensor}'{where} is about {size}: its own noise is {self.excess:.0f} dB "
            f"above what {self.bits} bits give ({self.snr:.1f} dB signal to noise)"
        )

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; an infinite figure is null."""
        return {
            "tensor": self.tensor,
            "kind": self.kind,
            "node": self.node,
            "bits": self.bits,
            "excess_db": finite(self.excess),
            "snr_db": finite(self.snr),
            "factor": finite(self.factor),
            "matched": self.matched,
            "fault": self.is_fault,
            "cause": self.cause or ("scale" if self.is_fault else ""),
        }


def power_of(values: Floats) -> float:
    """Sum of squares."""
    return float(np.square(values, dtype=np.float64).sum())


def excess_of(noise: float, best: float, exact: Floats) -> float:
    """dB above the noise of a good scale, which counts as at least 1e-11 of the signal."""
    return 10 * math.log10(max(noise, 1e-30) / max(best, 1e-11 * power_of(exact), 1e-30))
