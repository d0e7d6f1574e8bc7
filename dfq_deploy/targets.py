"""What each runtime accepts, as data."""

from dataclasses import dataclass

from dfq_deploy.encodings import QuantType
from dfq_deploy.errors import TargetError

__all__ = ["REFUSED", "TARGETS", "Target", "find_target"]


@dataclass(frozen=True)
class Target:
    """The rules of one runtime.

    Args:
        name: as ``--target`` takes it.
        runtime: what runs the file, for people.
        activation: type of activations, always per tensor.
        weight: type of weights.
        per_channel: one weight scale per output channel.
        quantized_ops: operators whose inputs and outputs are quantized.
        passing_ops: operators that move values without changing them: input and output share one
            encoding, and they are quantized only between quantized operators.
        fused_activations: operators folded into the quantization after a weighted operator.
        float_output_ops: operators whose integer kernel can write float: a graph output behind one
            of them stays float.
        exporter: the exporter that writes its file.
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


CPU = Target(
    name="cpu",
    runtime="ONNX Runtime on x86 and Arm CPUs",
    # u8 activations with s8 weights: the pair that ONNX Runtime fuses everywhere. It rewrites s8
    # activations to u8 itself, but not where one Q feeds two DQs, which residual networks have.
    activation=QuantType(8, signed=False, symmetric=False),
    weight=QuantType(8, signed=True, symmetric=True),
    per_channel=True,
    quantized_ops=frozenset(
        {"Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid"}
    ),
    passing_ops=frozenset(
        {"Concat", "Dropout", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice"}
        | {"Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
    ),
    fused_activations=frozenset({"Relu", "Clip"}),
    # QGemm and MatMulIntegerToFloat; QLinearConv writes integers only.
    float_output_ops=frozenset({"Gemm", "MatMul"}),
    exporter="qdq",
)

TARGETS: dict[str, Target] = {target.name: target for target in (CPU,)}

REFUSED: dict[str, str] = {
    "coreml": "ONNX Runtime's Core ML provider has no QuantizeLinear or DequantizeLinear, so an INT8 model would "
    "not be accelerated; convert the float model with coremltools and quantize its weights there",
}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: it is unknown, or refused (the message says why).
    """
    if name in REFUSED:
        raise TargetError(f"target '{name}' is refused: {REFUSED[name]}")
    if name not in TARGETS:
        raise TargetError(f"unknown target '{name}'; installed: {', '.join(sorted(TARGETS))}")
    return TARGETS[name]
