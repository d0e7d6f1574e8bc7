"""The targets and what each runtime accepts; add a new one to ``TARGETS`` here."""

from dataclasses import replace

from dfq_deploy.encodings import QuantType
from dfq_deploy.errors import TargetError, did_you_mean
from dfq_deploy.targets.operator_lists import LITERT_OPS, NNAPI_OPS, QNN_NEWER_OPS, QNN_OPS
from dfq_deploy.targets.target import Target

__all__ = ["DEFAULT_TARGET", "REFUSED", "TARGETS", "find_target"]

U8 = QuantType(8, signed=False, symmetric=False)


S8 = QuantType(8, signed=True, symmetric=False)


S8_SYMMETRIC = QuantType(8, signed=True, symmetric=True)


CLIPPING = frozenset({"Relu", "Clip"})
"""Activations that an integer kernel implements by the saturation of its output."""


MOVING = frozenset(
    {"Concat", "Dropout", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice"}
    | {"Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)


GENERAL_RULES = (
    *("float-weighted", "activation-type", "weight-type", "type-pair", "constant-parameters", "positive-scale"),
    *("per-tensor-activation", "per-channel-weight", "channel-axis", "symmetric-channels", "opset"),
)
"""Rules that apply to every runtime, with its own types and operators."""


ONNXRUNTIME = Target(
    name="cpu",
    runtime="ONNX Runtime on x86 and Arm CPUs",
    # u8 activations with s8 weights: the pair that ONNX Runtime fuses everywhere. It rewrites s8
    # activations to u8 itself, but not where one Q feeds two DQs, which residual networks have.
    activation=U8,
    weight=S8_SYMMETRIC,
    per_channel=True,
    quantized_ops=frozenset(
        {"Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid"}
    ),
    passing_ops=MOVING,
    fused_activations=CLIPPING,
    # QGemm and MatMulIntegerToFloat; QLinearConv writes integers only.
    float_output_ops=frozenset({"Gemm", "MatMul"}),
    exporter="qdq",
    rules=(*GENERAL_RULES, "integer-bias", "shared-int8"),
    pairs=(("u8", "s8"), ("s8", "s8"), ("u8", "u8")),
    channel_ops=frozenset({"Conv", "Gemm", "MatMul"}),
)
"""What the targets that run ONNX Runtime's kernels or read its files have in common."""


CPU = replace(
    ONNXRUNTIME,
    dynamic_ops=frozenset({"Gemm", "LSTM", "MatMul"}),
    block_ops=frozenset({"Gemm", "MatMul"}),
    quantized_tables=True,
    # SkipLayerNormalization takes up to 6 times as long as Sum and LayerNormalization (benchmarks/kernel_forms.py).
    separate_residuals=True,
    slow_channels=frozenset({"Gemm"}),
    rules=(*ONNXRUNTIME.rules, "saturating-sums"),
    advice=frozenset({"saturating-sums"}),
    narrow_sums=True,  # x86 without VNNI
)


OPENVINO = replace(
    ONNXRUNTIME,
    name="openvino",
    runtime="OpenVINO on Intel CPUs, GPUs and NPUs",
    # OpenVINO converts Q and DQ to FakeQuantize and selects its integer kernels from these.
    rules=(*GENERAL_RULES, "expanded-concat", "saturating-sums"),
    advice=frozenset({"saturating-sums"}),
    expands=False,
    narrow_sums=True,  # x86 without VNNI
)


WEB = replace(
    CPU,
    name="web",
    runtime="ONNX Runtime Web in browsers",
    # WebAssembly runs ONNX Runtime's CPU kernels: u8 is faster there than s8, as on x86.
    rules=(*ONNXRUNTIME.rules, "newest-opset"),
    newest_opset=26,  # onnxruntime-web 1.30
    narrow_sums=False,  # its kernels add in 32 bits
    advice=frozenset(),
)


TENSORRT = Target(
    name="tensorrt",
    runtime="TensorRT 10 and 11 on NVIDIA GPUs",
    activation=S8_SYMMETRIC,
    weight=S8_SYMMETRIC,
    per_channel=True,
    quantized_ops=frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
    passing_ops=MOVING,
    fused_activations=CLIPPING,
    float_output_ops=frozenset(),
    exporter="tensorrt",
    rules=(
        *GENERAL_RULES,
        *("zero-point", "float-bias", "qdq-format", "concat-scale", "residual-branch", "quantized-output"),
        *("split-activation",),
    ),
    pairs=(("s8", "s8"), ("e4m3", "e4m3")),
    channel_ops=frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
    style="inputs",
    float_bias=True,
    skips_gemv=True,
    has_plugins=True,
    float16=True,
    activation_bits=(8,),  # no Clip of integers, no type of 16 bits; weights of fewer bits are stored as s8
    # TensorRT-RTX 1.7 builds files that break them; where Q and DQ stand decides what is fused, not what is accepted.
    advice=frozenset({"concat-scale", "residual-branch", "quantized-output", "split-activation"}),
)


XNNPACK = replace(
    ONNXRUNTIME,
    name="xnnpack",
    runtime="ONNX Runtime with XNNPACK on phones",
    activation=S8,
    exporter="ort",
    # Operators without an XNNPACK kernel run on ONNX Runtime's CPU kernels, so that these are quantized too.
    rules=(*GENERAL_RULES, "integer-bias", "static-sample", "two-dimensional", "constant-weight"),
    pairs=(("s8", "s8"), ("u8", "u8")),
    static_shapes=True,
)


NNAPI = replace(
    ONNXRUNTIME,
    name="nnapi",
    runtime="ONNX Runtime with NNAPI, Android 10+",
    weight=S8_SYMMETRIC,
    quantized_ops=frozenset({"Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "Sigmoid"}),
    # Flatten, Squeeze and similar operators have only a float form there.
    passing_ops=frozenset({"Concat", "MaxPool", "Reshape", "Resize", "Transpose"}),
    # NNAPI recognises a Gemm as quantized only if its output is quantized.
    float_output_ops=frozenset(),
    exporter="ort-runtime",
    rules=(*GENERAL_RULES, "integer-bias", "static-shape", "two-dimensional", "constant-weight", "left-to-cpu"),
    pairs=(("u8", "u8"), ("u8", "s8")),
    channel_ops=frozenset({"Conv"}),
    static_shapes=True,
    accelerated_ops=NNAPI_OPS,
    advice=frozenset({"left-to-cpu"}),
)


NNAPI_TENSORS = replace(
    NNAPI,
    name="nnapi-per-tensor",
    runtime="ONNX Runtime with NNAPI, before 10",
    weight=U8,
    per_channel=False,
    # With one scale for all channels, a depthwise network is unusable unless its channels are equalized first.
    refine=("equalize",),
)


QNN = replace(
    ONNXRUNTIME,
    name="qnn",
    runtime="Qualcomm's NPU (HTP) through QNN",
    weight_per_tensor=U8,  # the MatMul of the HTP backend does not support s8
    quantized_ops=QNN_OPS - MOVING - CLIPPING,
    passing_ops=MOVING & QNN_OPS,
    float_output_ops=frozenset(),
    exporter="qnn",
    rules=(*GENERAL_RULES, "integer-bias", "static-shape", "operator", "float-tensor", "newer-chip"),
    advice=frozenset({"newer-chip"}),
    newer_ops=QNN_NEWER_OPS,
    pairs=tuple((activation, weight) for activation in ("u8", "u16") for weight in ("s8", "u8", "s4")),
    channel_ops=frozenset({"Conv", "ConvTranspose"}),
    style="everything",
    static_shapes=True,
    whole_ops=QNN_OPS,
)


LITERT = replace(
    ONNXRUNTIME,
    name="litert",
    runtime="LiteRT (TensorFlow Lite) on phones",
    # The int8 scheme of TensorFlow Lite (quantization specification): s8 activations with any zero point, s8 weights
    # with zero point 0, one scale for each output channel, int32 biases.
    activation=S8,
    quantized_ops=frozenset(
        {"Add", "Conv", "ConvTranspose", "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "LeakyRelu", "MatMul"}
        | {"Mul", "PRelu", "ReduceMean", "Sigmoid", "Softmax", "Sub", "Tanh"}
    ),
    # AVERAGE_POOL_2D has one scale for input and output there.
    passing_ops=(MOVING - {"Expand"}) | {"AveragePool"},
    float_output_ops=frozenset(),
    exporter="litert",
    rules=(*GENERAL_RULES, "static-shape", "operator", "fixed-scale", "moved-scale"),
    advice=frozenset({"fixed-scale", "moved-scale"}),  # the exporter inserts a QUANTIZE
    pairs=(("s8", "s8"), ("u8", "s8"), ("s16", "s8")),
    channel_ops=frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
    static_shapes=True,
    whole_ops=LITERT_OPS,
    constant_operands=frozenset({"Add", "Mul", "Sub"}),
    fuses_bias=True,
    fixed_outputs={"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0)},
    shifts_unsigned=True,
    activation_bits=(8, 16),
    symmetric_16=True,
)


RKNN = replace(
    XNNPACK,
    name="rknn",
    runtime="Rockchip's NPUs (RK3588, RK3576, RK3568) through RKNN-Toolkit2",
    # As RKNN-Toolkit2 2.5 and its simulator take them: s8 around every kernel, or a convolution before an Add runs in
    # FP16; load_onnx refuses int32 biases. A MatMul whose product an Add reads as float runs in FP16.
    float_output_ops=frozenset({"Gemm"}),
    float_first_product=True,  # RKNN-Toolkit2's build did not end where it had Q and DQ
    exporter="rknn",
    rules=(*GENERAL_RULES, "float-bias", "static-shape", "qdq-format", "float-product"),
    pairs=(("s8", "s8"),),
    float_bias=True,
)


RKNN_INTEGERS = replace(
    RKNN,
    name="rknn-rv1106",
    runtime="Rockchip's NPUs without floats (RV1103, RV1106)",
    float_output_ops=frozenset(),
    float_first_product=False,
    floats=False,
    rules=(*RKNN.rules, "float-output", "token-product"),
    advice=frozenset({"token-product"}),
)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (CPU, WEB, OPENVINO, TENSORRT, XNNPACK, LITERT, NNAPI, NNAPI_TENSORS, QNN, RKNN, RKNN_INTEGERS)
}


DEFAULT_TARGET = "cpu"


REFUSED: dict[str, str] = {
    "coreml": "ONNX Runtime's Core ML provider has no QuantizeLinear or DequantizeLinear, so an INT8 model would "
    "not be accelerated; convert the float model with coremltools and quantize its weights there",
}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: it is unknown, or not supported (the message gives the reason).
    """
    if name in REFUSED:
        raise TargetError(f"target '{name}' is refused: {REFUSED[name]}")
    if name not in TARGETS:
        raise TargetError(f"unknown target '{name}'{did_you_mean(name, sorted(TARGETS))}")
    return TARGETS[name]
