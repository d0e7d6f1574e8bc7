"""The Target dataclass."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from dfq_deploy.encodings import QuantType

__all__ = ["Style", "Target"]

Style: TypeAlias = Literal["kernels", "inputs", "everything"]
"""Where Q and DQ are placed.

``kernels``: on the inputs and outputs of every integer kernel (ONNX Runtime, OpenVINO).
``inputs``: only on the inputs of weighted operators and on the residual branch of an Add (TensorRT).
``everything``: on every float tensor, including the inputs and outputs of the graph (Qualcomm's NPU).
"""


@dataclass(frozen=True)
class Target:
    """The requirements of one runtime.

    Args:
        name: the value of ``--target``.
        runtime: display name of the runtime.
        activation: type of activations, always per tensor.
        weight: type of weights.
        per_channel: one weight scale per output channel, for the operators of ``channel_ops``.
        quantized_ops: operators whose inputs and outputs are quantized.
        passing_ops: operators that move values without changing them: input and output share one
            encoding, and they are quantized only between quantized operators.
        fused_activations: operators folded into the quantization after a weighted operator.
        float_output_ops: operators whose integer kernel can write float: a graph output that is produced by one
            of them stays float.
        exporter: name of the exporter that writes its file.
        rules: names of the rules that ``dfq-deploy check`` applies (:mod:`dfq_deploy.checking`).
        pairs: combinations of activation and weight types that the kernels of the runtime support.
        channel_ops: weighted operators that support one scale per output channel.
        style: where Q and DQ are placed.
        float_bias: biases stay float; else they are int32 with scale s_x * s_w.
        static_shapes: the file must not have dynamic dimensions; a dynamic batch is fixed to 1.
        skips_gemv: matrix-vector products stay float.
        whole_ops: all operators that the runtime supports, if it must run the whole graph; else None.
        refine: refinements that the target needs in addition to the default ones.
        weight_per_tensor: type of weights with one scale for all channels; None is the type ``weight``.
        has_plugins: it may have operators of its own, such as TensorRT's plug-ins.
        newest_opset: the newest opset that the runtime loads; None is whatever ONNX Runtime loads here.
        float16: what is not quantized may be half precision; its exporter has an option ``float16``.
        activation_bits: widths of activations in files that the runtime accepts; None is any width, of which all but 8
            and 16 are stored in wider integers and only simulated.
        advice: those of ``rules`` that the runtime does not enforce: a file that breaks one runs, only slower.
        constant_operands: operators that stay in integers if one of their operands is a constant, which the exporter
            quantizes.
        fuses_bias: the Add of a constant bias behind a MatMul is part of its integer kernel.
        fixed_outputs: operator -> lower and upper bound of what its integer kernel writes, in 2^bits steps, whatever
            the range of the samples is.
        shifts_unsigned: its exporter shifts u8 activations to s8, so that a convolution may read bytes directly.
        symmetric_16: activations of 16 bits have zero point 0.
        dynamic_ops: weighted and recurrent operators whose activations can be quantized at run time
            (:mod:`dfq_deploy.quantization.dynamic`).
        separate_residuals: an Add before a LayerNormalization is written as a Sum, which the runtime does not fuse.
        block_ops: products whose weights it reads in blocks of a few bits
            (:mod:`dfq_deploy.quantization.weight_blocks`).
        quantized_tables: it looks rows up in tables of integers (:mod:`dfq_deploy.quantization.tables`).
        floats: it computes in float too, so that layers may stay there.
        slow_channels: those of ``channel_ops`` whose kernels take longer with a scale for each channel
            (:mod:`dfq_deploy.quantization.placement.single_scales`).
        accelerated_ops: operators that the accelerator supports, if ONNX Runtime runs all others on the CPU; else None.
        expands: it computes a Concat with an Expand of open size correctly
            (:mod:`dfq_deploy.graph.expanded`).
        newer_ops: operators that the oldest chips of the runtime do not have.
        float_first_product: the product of a MatMul that reads an input of the network stays float before its bias.
        narrow_sums: on some processors its kernels add two products in 16 bits, which weights must not exceed
            (:func:`dfq_deploy.quantization.weights.raise_scale_for_sums`).
    """

    name: str
    runtime: str
    activation: QuantType
    weight: QuantType
    per_channel: bool
    quantized_ops: frozenset[str]
    passing_ops: frozenset[str]
    fused_activations: frozenset[str]
    float_output_ops: frozenset[str]
    exporter: str
    rules: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    channel_ops: frozenset[str]
    style: Style = "kernels"
    float_bias: bool = False
    static_shapes: bool = False
    skips_gemv: bool = False
    whole_ops: frozenset[str] | None = None
    refine: tuple[str, ...] = ()
    weight_per_tensor: QuantType | None = None
    has_plugins: bool = False
    newest_opset: int | None = None
    float16: bool = False
    activation_bits: tuple[int, ...] | None = None
    advice: frozenset[str] = frozenset()
    constant_operands: frozenset[str] = frozenset()
    fuses_bias: bool = False
    fixed_outputs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    shifts_unsigned: bool = False
    symmetric_16: bool = False
    dynamic_ops: frozenset[str] = frozenset()
    quantized_tables: bool = False
    separate_residuals: bool = False
    block_ops: frozenset[str] = frozenset()
    floats: bool = True
    slow_channels: frozenset[str] = frozenset()
    accelerated_ops: frozenset[str] | None = None
    expands: bool = True
    newer_ops: frozenset[str] = frozenset()
    float_first_product: bool = False
    narrow_sums: bool = False
