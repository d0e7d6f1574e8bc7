"""Operators that runtimes list as their own, each set that of one version."""

__all__ = ["LITERT_OPS", "NNAPI_OPS", "QNN_NEWER_OPS", "QNN_OPS"]

NNAPI_OPS = frozenset(
    {"Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "DepthToSpace"}
    | {"DequantizeLinear", "Div", "Elu", "Exp", "Flatten", "Floor", "Gather", "Gemm", "GlobalAveragePool"}
    | {"GlobalMaxPool", "Identity", "LRN", "LeakyRelu", "Log", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg"}
    | {"PRelu", "Pad", "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "ReduceMean", "Relu", "Reshape"}
    | {"Resize", "Sigmoid", "Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose"}
    | {"Unsqueeze", "com.microsoft::QLinearAdd", "com.microsoft::QLinearAveragePool", "com.microsoft::QLinearSigmoid"}
)
"""Operators listed by ONNX Runtime 1.31 (tools/mobile_helpers/nnapi_supported_ops.md)."""

QNN_NEWER_OPS = frozenset({"GRU", "LSTM", "RoiAlign", "Selu", "Xor"})
"""Operators that the simulator of onnxruntime-qnn 2.7 refuses for its default chip, and runs for others."""

QNN_OPS = QNN_NEWER_OPS | frozenset(
    {"Abs", "Add", "And", "ArgMax", "ArgMin", "Asin", "Atan", "AveragePool", "BatchNormalization", "Cast"}
    | {"CastLike", "Ceil", "Clip", "Concat", "Conv", "ConvTranspose", "Cos", "CumSum", "DepthToSpace", "Div"}
    | {"Einsum", "Elu", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu"}
    | {"Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample", "GroupNormalization"}
    | {"HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LayerNormalization"}
    | {"LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "Max"}
    | {"MaxPool", "MaxRoiPool", "Mean", "Min", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow"}
    | {"RMSNormalization", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"}
    | {"ReduceSum", "Relu", "Reshape", "Resize", "Round", "ScatterElements", "ScatterND", "Sigmoid", "Sign", "Sin"}
    | {"Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Swish", "Tan"}
    | {"Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Unsqueeze", "Upsample", "Where"}
    | {"com.microsoft::Gelu", "com.microsoft::QuickGelu"}
)
"""Operators listed by onnxruntime-qnn 2.7 (docs/execution_providers/QNN-ExecutionProvider.md).

Of those that versions since 2.4 added, only what its simulator runs between Q and DQ (benchmarks/qnn_operators.py).
"""

LITERT_OPS = frozenset(
    {"Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat"}
    | {"Conv", "ConvTranspose", "Cos", "DepthToSpace", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand"}
    | {"Flatten", "Floor", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater"}
    | {"GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization"}
    | {"LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg"}
    | {"Not", "Or", "PRelu", "Pad", "Pow", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"}
    | {"ReduceSum", "Relu", "Reshape", "Resize", "Round", "Sigmoid", "Sign", "Sin", "Slice", "Softmax", "Softplus"}
    | {"SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where"}
)
"""Operators that the exporter ``litert`` writes; Erf as part of a GELU only."""
