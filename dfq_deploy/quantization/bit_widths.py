"""Bit widths such as ``w4a8``, and the integer type of each tensor."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from dfq_deploy.encodings import QuantType
from dfq_deploy.errors import OptionError
from dfq_deploy.graph.operators import WEIGHTED_OPS, is_op
from dfq_deploy.graph.query import constant_of, weighted_nodes
from dfq_deploy.graph.traversal import after, before
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.samples.batches import tensors_of_known_range
from dfq_deploy.targets.target import Target

__all__ = [
    "STORED_WIDTHS",
    "WIDTHS",
    "Bits",
    "Budget",
    "bits_of",
    "check_widths",
    "edge_layers",
    "is_channel_scale",
    "set_bits",
    "with_bits",
]

FP8 = "fp8"
"""What asks for FP8 in place of integers."""

WIDTHS = (2, 3, 4, 5, 6, 7, 8)

STORED_WIDTHS = (8, 4)
"""Bits that weights are stored in: ONNX has types of 8 and 4, and a file is no smaller for widths between or below."""

ACTIVATION_WIDTHS = (*WIDTHS, 16)
"""Activations may also have 16 bits."""

HALF_A_BYTE = 4
"""Bits of an activation that is stored in a type of 4 bits; others are stored in bytes."""


@dataclass(frozen=True)
class Bits:
    """Bit widths of all layers, the first and the last one included.

    The input of the network has at least 8 bits (a camera delivers bytes), and so have tensors that no layer
    multiplies, such as the branches of a residual sum. A tensor that is read both by a layer and by such an operator is
    rounded again for the layer (:mod:`dfq_deploy.quantization.narrow_copies`). A convolution with a single weight for
    each channel, which replaces a BatchNormalization that cannot be folded, is not a layer in this sense and has 8 bits
    too. Outputs stay float if the target keeps them so.

    Args:
        weights: 2 to 8.
        activations: 2 to 8, or 16.
        edge: smallest width of the weights and the inputs of the first and the last layer; None treats them like all
            others.
        floating: FP8 (E4M3) in place of integers, with both widths 8.
        layers: name of a weighted node -> its own widths (weights, activations), which take precedence.
    """

    weights: int = 8
    activations: int = 8
    edge: int | None = None
    layers: Mapping[str, tuple[int, int]] | None = None
    floating: bool = False

    def __post_init__(self) -> None:
        if self.floating and ((self.weights, self.activations) != (8, 8) or self.edge is not None or self.layers):
            raise OptionError("bits: fp8 has 8 bits everywhere; leave the widths of edge layers and single layers out")
        if self.weights not in WIDTHS:
            raise OptionError(f"bits: weights of {self.weights} bits are not supported; choose 2 to 8")
        if self.activations not in ACTIVATION_WIDTHS:
            raise OptionError(f"bits: activations of {self.activations} bits are not supported; choose 2 to 8, or 16")
        if self.edge is not None and self.edge not in WIDTHS:
            raise OptionError(f"bits: edge layers of {self.edge} bits are not supported; choose 2 to 8")

    @classmethod
    def parse(cls, text: str, edge: int | None = None) -> "Bits":
        """Parse text such as ``w4a4``: the bits of weights and of activations; or ``fp8``.

        Raises:
            OptionError: the text has another form, or a width is not supported.
        """
        if text.strip().lower() == FP8:
            return cls(edge=edge, floating=True)
        match = re.fullmatch(r"w(\d+)a(\d+)", text.strip().lower())
        if match is None and text.strip().isdigit():
            raise OptionError(f"bits: '{text}' is one number; write both, w{text.strip()}a8 (w8a8 is the default)")
        if match is None:
            raise OptionError(f"bits: '{text}' is not of the form w4a8 (bits of weights, bits of activations), or fp8")
        return cls(int(match[1]), int(match[2]), edge)

    def __str__(self) -> str:
        if self.floating:
            return FP8
        edge = "" if self.edge is None else f", first and last layer {self.edge}"
        mixed = f", {len(self.layers)} layers of their own" if self.layers else ""
        return f"w{self.weights}a{self.activations}{edge}{mixed}"

    @property
    def is_plain(self) -> bool:
        """True where all weights and activations have 8 bits."""
        return (self.weights, self.activations) == (8, 8) and not self.layers

    @property
    def fewest(self) -> int:
        """The smallest width of any layer."""
        own = [bits for pair in (self.layers or {}).values() for bits in pair]
        return min(self.weights, self.activations, *own)

    def of_layer(self, node: ir.Node, edges: set[ir.Node]) -> tuple[int, int]:
        """Return the bits of the weight and of the input of one weighted node."""
        name = node.name or ""
        if self.layers and name in self.layers:
            return self.layers[name]
        minimum = self.edge if self.edge is not None and node in edges else 0
        return max(self.weights, minimum), max(self.activations, minimum)


@dataclass(frozen=True)
class Budget:
    """The limit for mixed precision; exactly one of the two is set.

    Args:
        size: largest size of the file, as a fraction of the float file (8 bits are 0.25 and more: a file also holds
            scales, biases and nodes).
        drop: largest percentage of the samples whose class may change.
    """

    size: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        if (self.size is None) == (self.drop is None):
            raise OptionError("bits: auto needs either a size (e.g. 18%) or a drop (e.g. 1.0), and not both")
        if self.size is not None and not 0 < self.size <= 1:
            raise OptionError(f"bits: a size of {self.size:g} is not a fraction from 0 to 1; give e.g. 0.18 or 18%")
        if self.drop is not None and not 0 <= self.drop <= 100:
            raise OptionError(f"bits: a drop of {self.drop:g} is not a percentage from 0 to 100")


def bits_of(
    bits: "str | Bits | None", edge: int | None = None, size: float | None = None, drop: float | None = None
) -> "Bits | Budget":
    """Convert the options of a calibration to bit widths, or to a budget from which mixed precision chooses them.

    Raises:
        OptionError: the options contradict each other, or a width is not supported.
    """
    if bits == "auto" or (bits is None and (size, drop) != (None, None)):
        if edge is not None:
            raise OptionError("bits: auto chooses the widths of the first and the last layer too; omit the edge bits")
        return Budget(size, drop)
    if (size, drop) != (None, None):
        raise OptionError(f"bits: a size or a drop needs bits=auto; {bits} fixes the widths")
    return Bits.parse(bits, edge) if isinstance(bits, str) else bits or Bits(edge=edge)


def check_widths(bits: "Bits | Budget", target: Target) -> None:
    """Check that ``target`` accepts the widths of activations, and FP8.

    Raises:
        OptionError: it does not.
    """
    if isinstance(bits, Bits) and bits.floating and ("e4m3", "e4m3") not in target.pairs:
        raise OptionError(f"bits: {target.runtime} has no FP8; use --target tensorrt, or bits such as w8a8")
    accepted = target.activation_bits
    if accepted is None or isinstance(bits, Budget):
        return
    widths = {bits.activations, *(activations for _, activations in (bits.layers or {}).values())}
    if wrong := sorted(widths - set(accepted)):
        shown = " or ".join(map(str, accepted))
        raise OptionError(
            f"bits: {target.runtime} takes activations of {shown} bits, not {wrong[0]}; choose e.g. "
            f"w{bits.weights}a{accepted[0]}"
        )


def with_bits(placement: Placement, model: ir.Model, bits: Bits, *, symmetric_16: bool = False) -> Placement:
    """Set the widths of ``bits`` in ``placement``; signs and symmetries stay those of the target.

    Weights and the inputs of convolutions and matrix products have the widths of ``bits``; other tensors have at least
    8 bits, and so have those that a MaxPool reads where they would have 4. If layers of different widths read one
    tensor, or several tensors share one encoding, the largest width is used.

    Args:
        symmetric_16: activations of 16 bits get zero point 0.
    """
    edges = edge_layers([node for node in weighted_nodes(model) if node.graph is model.graph])
    weights: dict[str, int] = {}
    activations: dict[str, int] = {}
    rest = max(8, bits.activations)
    for node in (node for node in model.graph if is_op(node, WEIGHTED_OPS)):
        weight_bits, activation_bits = (8, rest) if is_channel_scale(node) else bits.of_layer(node, edges)
        for value in node.inputs[:2]:
            name = None if value is None else value.name
            if value is None or name is None:
                continue
            if constant_of(value) is not None and name in placement.weights:
                weights[name] = max(weight_bits, weights.get(name, 0))
            elif name in placement.activations:
                activations[name] = max(activation_bits, activations.get(name, 0))
    for name in tensors_of_known_range(model) & placement.activations.keys():
        activations[name] = rest
    fixed = _fixed_bits(model)
    activations |= {name: max(width, activations.get(name, 0)) for name, width in fixed.items()}
    for group in placement.shared:
        largest = max(activations.get(name, 0) for name in group)
        activations.update(dict.fromkeys(group, largest or rest))
    pooled = _pooled(model, {name for name, width in activations.items() if width == HALF_A_BYTE})
    activations.update(dict.fromkeys(pooled, rest))
    return replace(
        placement,
        shared=tuple(others for group in placement.shared if len(others := group - pooled) > 1),
        activations={
            name: _with_width(qtype, activations.get(name, rest), bits, symmetric_16)
            for name, qtype in placement.activations.items()
        },
        weights={
            name: (_with_width(qtype, weights.get(name, bits.weights), bits), axis)
            for name, (qtype, axis) in placement.weights.items()
        },
        constants={
            name: replace(qtype, bits=fixed.get(name, qtype.bits)) for name, qtype in placement.constants.items()
        },
    )


def _pooled(model: ir.Model, narrow: Collection[str]) -> frozenset[str]:
    """Those of the ``narrow`` tensors, of 4 bits, that a MaxPool reads: ONNX Runtime has none for such types.

    It moves Q and DQ from behind a MaxPool before it, and then cannot load the file, unless the tensor has its own.
    """
    read = (node.inputs[0] for node in model.graph if is_op(node, "MaxPool"))
    return frozenset(value.name for value in read if value is not None and value.name is not None) & frozenset(narrow)


FIXED = "dfq_deploy.bits"
"""Key in the ``meta`` of a value that :func:`set_bits` has set; it is not written to a file."""


def set_bits(value: ir.Value, bits: int) -> None:
    """Give an activation, or a constant that is no weight, at least so many bits, whatever the layers have."""
    value.meta[FIXED] = bits


def _fixed_bits(model: ir.Model) -> dict[str, int]:
    computed = (value for node in model.graph for value in node.outputs)
    values = (*computed, *model.graph.initializers.values())
    return {str(value.name): int(value.meta[FIXED]) for value in values if FIXED in value.meta}


def is_channel_scale(node: ir.Node) -> bool:
    """Return True for a convolution that only multiplies each channel by a factor."""
    value = node.inputs[1]
    weight = None if not is_op(node, "Conv") or value is None else constant_of(value)
    return weight is not None and weight.size == weight.shape.numpy()[0] == node.attributes.get_int("group", 1) > 1


def _with_width(qtype: QuantType, width: int, bits: Bits, symmetric_16: bool = False) -> QuantType:
    symmetric = qtype.symmetric or (symmetric_16 and width == 16)
    return replace(qtype, bits=width, symmetric=symmetric, floating=bits.floating)


def edge_layers(weighted: list[ir.Node]) -> set[ir.Node]:
    """Return the first and the last of the weighted nodes: those with no other one before or after them."""
    layers = set(weighted)
    return {node for node in weighted if layers.isdisjoint(after(node)) or layers.isdisjoint(before(node))}
