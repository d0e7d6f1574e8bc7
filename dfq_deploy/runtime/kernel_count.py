"""The layers of a file with the kernels that a runtime uses: Kernel and KernelCount."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfq_deploy.runtime.layers import Kind

__all__ = ["Kernel", "KernelCount", "named", "short_name"]

NARROW: dict[Kind, str] = {"integer": "INT8", "float8": "FP8"}
"""Kinds of products of 8 bits -> what messages call them."""

LONGEST = 60
"""Characters of a name in a message."""

LISTED = 3
"""Number of layers that a message lists."""

FUSED_WAY_OUT = (
    "ONNX Runtime fuses a MatMul and the Add of its bias into a float Gemm; export the layer as Gemm where its input "
    "is of rank 2, or give the bias the shape [1, 1, N]"
)

FORM_WAY_OUT = (
    "ONNX Runtime has no integer kernel for such layers (a float bias, an output that is not quantized); calibrate the "
    "float model with --target cpu, and keep in float what stays so (--keep-float)"
)

COMPILED_WAY_OUT = (
    "this compiler has no INT8 kernel for layers of this form, or splits them into several; keep them in float "
    "(--keep-float), or measure both files on the device"
)


def short_name(name: str) -> str:
    """``name`` with its middle left out where it is long: converters join the names of the nodes that they fuse."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}...{name[3 - LONGEST // 2 :]}"


def named(kernels: "Sequence[Kernel]") -> str:
    """Return a list of layers for a message: ``Gemm 'fc', Conv 'stem', and 3 more``."""
    shown = ", ".join(f"{kernel.operator} '{short_name(kernel.name)}'" for kernel in kernels[:LISTED])
    rest = len(kernels) - LISTED
    return shown + (f", and {rest} more" if rest > 0 else "")


@dataclass(frozen=True)
class Kernel:
    """One layer and the kernel that runs it.

    Args:
        name, operator: those of the layer in the file, or of the kernel if the optimizer fused several layers.
        kernel: the operator that runs: ``QLinearConv``, ``FusedGemm``...
        kind: the type of its products.
        macs: multiply-accumulates for one sample; None if unknown.
        weights: number of constants that it multiplies by; 0 for a product of two activations.
        dequantized: True for a float kernel that reads DequantizeLinear, and no constant weight in float: the layer is
            quantized in the file, but runs in float, with the additional cost of the conversion.
    """

    name: str
    operator: str
    kernel: str
    kind: Kind
    macs: int | None = None
    dequantized: bool = False
    weights: int = 0


@dataclass(frozen=True)
class KernelCount:
    """The layers of a file and the kernels that a runtime uses.

    Args:
        kernels: one for each layer of the optimized graph, in order.
        conversions: number of QuantizeLinear and DequantizeLinear nodes in the optimized graph.
        between: names of the float nodes between a dequantization and a quantization that are neither layers nor only
            move values.
        runtime: display name of the runtime.
        listed: True if the layers were read from the list that the runtime's compiler writes.
        reason: why layers were counted by the placement of Q and DQ; empty if the runtime's own graph was read.
    """

    kernels: tuple[Kernel, ...]
    conversions: int
    between: tuple[str, ...]
    runtime: str
    reason: str = ""
    listed: bool = False

    @property
    def total(self) -> int:
        """Number of layers."""
        return len(self.kernels)

    @property
    def integer(self) -> int:
        """Number of layers that multiply integers, or floats of 8 bits."""
        return sum(kernel.kind in NARROW for kernel in self.kernels)

    @property
    def precision(self) -> str:
        """The type of these products: ``INT8``, ``FP8``, or both."""
        return (
            " or ".join(NARROW[kind] for kind in NARROW if any(kernel.kind == kind for kernel in self.kernels))
            or "INT8"
        )

    @property
    def weight_only(self) -> int:
        """Number of layers that store integers and multiply floats."""
        return sum(kernel.kind == "weights" for kernel in self.kernels)

    @property
    def in_float(self) -> tuple[Kernel, ...]:
        """The layers that run in float, those with the most products first."""
        kernels = [kernel for kernel in self.kernels if kernel.kind == "float"]
        return tuple(sorted(kernels, key=lambda kernel: -(kernel.macs or 0)))

    @property
    def dequantized(self) -> tuple[Kernel, ...]:
        """The layers that are quantized in the file but run in float, those with the most products first.

        Such a layer is slower than one that is not quantized: its weight is dequantized in each run.
        """
        return tuple(kernel for kernel in self.in_float if kernel.dequantized)

    @property
    def share(self) -> float | None:
        """Fraction of all multiply-accumulates in integers, 0 to 1; None if one is unknown, or there are none."""
        sizes = [kernel.macs for kernel in self.kernels]
        if not sizes or None in sizes or not sum(size or 0 for size in sizes):
            return None
        integer = sum(kernel.macs or 0 for kernel in self.kernels if kernel.kind in NARROW)
        return integer / sum(size or 0 for size in sizes)

    @property
    def float_share(self) -> float:
        """Fraction of all multiply-accumulates in float, 0 to 1.

        If one is unknown (an open size), the fraction of the weights, and of the layers if there are none.
        """
        sizes = [kernel.macs for kernel in self.kernels]
        total, weights = sum(size or 0 for size in sizes), sum(kernel.weights for kernel in self.kernels)
        if None in sizes and weights:
            return sum(kernel.weights for kernel in self.in_float) / weights
        if None in sizes or not total:
            return len(self.in_float) / max(1, self.total)
        return sum(kernel.macs or 0 for kernel in self.in_float) / total

    @property
    def way_out(self) -> str:
        """How to avoid the layers of :attr:`dequantized`; empty if there are none."""
        if self.listed and self.dequantized:
            return COMPILED_WAY_OUT
        if any(kernel.operator == "MatMul" for kernel in self.dequantized):
            return FUSED_WAY_OUT
        return FORM_WAY_OUT if self.dequantized else ""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping, as ``--json`` prints it."""
        return {
            "integer": self.integer,
            "weight_only": self.weight_only,
            "total": self.total,
            "integer_share": self.share,
            "conversions": self.conversions,
            "kernels": dict(Counter(kernel.kernel for kernel in self.kernels)),
            "in_float": [vars(kernel) for kernel in self.in_float],
            "between": list(self.between),
            "runtime": self.runtime,
            "by_placement": self.reason,
        }

    def __str__(self) -> str:
        """``2 of 3 layers in INT8 (66.7 % of the products)``, with the reason if the runtime's graph was not read."""
        parts = [f"{self.integer} of {self.total} layers in {self.precision}"]
        if self.share is not None and self.integer < self.total:
            parts.append(f" ({100 * self.share:.1f} % of the products)")
        if self.weight_only:
            parts.append(f", {self.weight_only} with integer weights, float products")
        if self.listed:
            parts.append(f", by the layers that {self.runtime} lists")
        if self.reason:
            parts.append(f", by the placement of Q and DQ ({self.reason})")
        return "".join(parts)
