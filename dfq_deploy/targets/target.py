"""The Target dataclass."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dfq_deploy.encodings import QuantType

__all__ = ["Style", "Target"]

Style: TypeAlias = Literal["kernels", "inputs", "everything"]
"""Where Q and DQ stand.

``kernels``: on what every integer kernel reads and writes, where integers follow (ONNX Runtime, OpenVINO).
``inputs``: on what weighted operators read, and on the residual branch of an Add; nowhere else (TensorRT).
``everything``: on every float tensor, the graph's inputs and outputs included (Qualcomm's NPU).
"""


@dataclass(frozen=True)
class Target:
    """The rules of one runtime.

    Args:
        name: as ``--target`` takes it.
        runtime: what runs the file, for people.
        activation: type of activations, always per tensor.
        weight: type of weights.
        per_channel: one weight scale per output channel, for the operators of ``channel_ops``.
        quantized_ops: operators whose inputs and outputs are quantized.
        passing_ops: operators that move values without changing them: input and output share one
            encoding, and they are quantized only between quantized operators.
        fused_activations: operators folded into the quantization after a weighted operator.
        float_output_ops: operators whose integer kernel can write float: a graph output behind one
            of them stays float.
        exporter: the exporter that writes its file.
        rules: names of the rules that ``dfq-deploy check`` applies (:mod:`dfq_deploy.checking`).
        pairs: types of activation and weight that a kernel of the runtime takes together.
        channel_ops: weighted operators that take a scale for each output channel.
        style: where Q and DQ stand.
        float_bias: biases stay float; else they are int32 of scale s_x * s_w.
        static_shapes: no dimension of the file may be open; an open batch is fixed to 1.
        skips_gemv: a matrix-vector product stays float.
        whole_ops: all operators that the runtime has, where none may be left to another one; None where others may.
        refine: refinements that the target needs besides the default ones.
        weight_per_tensor: type of weights that have one scale for all channels; None is the same.
        has_plugins: it may have operators of its own, such as TensorRT's plug-ins.
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
