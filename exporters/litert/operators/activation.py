"""Activation functions."""

import numpy as np

from dfq_deploy.encodings import Encoding, QuantType, Range

from ..orders import Order, natural
from ..registry import Unsupported, operator
from ..step import FUSED, Step
from ..tensors import Tensor

__all__ = ["FIXED", "fixed_encoding"]

FIXED = {"Sigmoid": (1 / 256, -128), "Softmax": (1 / 256, -128), "Tanh": (1 / 128, 0)}
"""Scale and zero point that LiteRT's kernels of 8 bits write; those of 16 bits have scale 1 / 32768."""

CODES = {"Sigmoid": "LOGISTIC", "Tanh": "TANH"}


def fixed_encoding(operator_name: str, bits: int) -> Encoding:
    """Return the encoding of what LiteRT's Sigmoid, Softmax and Tanh write."""
    scale, zero = FIXED[operator_name] if bits == 8 else (1 / 32768, 0)
    return Encoding(np.asarray(scale, np.float32), np.asarray(zero, np.int32), QuantType(bits, True, bits == 16))


def _write_fixed(step: Step, code: str, source: Tensor, order: Order, table: str | None = None) -> None:
    """Write an operation whose integers have a fixed encoding, and requantize them if readers want another."""
    options = {"beta": 1.0} if table == "SoftmaxOptions" else {}
    if not step.is_integer or step.encoding is None:
        step.write(code, [source], order, table, options)
        return
    wanted = step.encoding
    step.encoding = fixed_encoding(step.node.op_type, wanted.qtype.bits)
    output = step.output(order)
    step.writer.emit(code, [source], output, table, options)
    step.store(step.writer.in_encoding(output, wanted), order)


@operator("Sigmoid", "Tanh", kind="fixed")
def bounded(step: Step) -> None:
    """LOGISTIC or TANH."""
    entry = step.input(0)
    _write_fixed(step, CODES[step.node.op_type], entry.tensor, entry.order)


@operator("Softmax", kind="fixed", slow=True)
def softmax(step: Step) -> None:
    """SOFTMAX over the last axis of the file."""
    rank = len(step.shape)
    axis = step.integer("axis", -1) % rank
    entry = step.input(0)
    order = entry.order if entry.order[-1] == axis else (*(a for a in entry.order if a != axis), axis)
    _write_fixed(step, "SOFTMAX", step.input(0, order).tensor, order, "SoftmaxOptions")


@operator("HardSwish", "Gelu", kind="kernel", slow=True)
def smooth(step: Step) -> None:
    """HARD_SWISH or GELU."""
    entry = step.input(0)
    if step.node.op_type == "HardSwish":
        step.write("HARD_SWISH", [entry.tensor], entry.order, "HardSwishOptions")
        return
    approximate = step.text("approximate", "none") == "tanh"
    step.write("GELU", [entry.tensor], entry.order, "GeluOptions", {"approximate": approximate})


@operator("Relu", "Clip", kind="kernel")
def clipped(step: Step) -> None:
    """RELU, RELU6 and their like; other bounds by MINIMUM and MAXIMUM."""
    entry = step.input(0)
    low, high = _bounds(step)
    code = FUSED.get((low, high))
    if step.is_integer and step.encoding is not None:
        within = step.encoding.range
        half = 0.51 * float(step.encoding.scale)
        if code is None and not (low - half <= within.low and within.high <= high + half):
            step.use_floats()
            entry = step.input(0)
        elif code is None:
            step.store(step.writer.in_encoding(entry.tensor, step.encoding), entry.order)
            return
    if code is not None:
        step.write(code, [entry.tensor], entry.order)
        return
    bounds = [(limit, kind) for limit, kind in ((low, "MAXIMUM"), (high, "MINIMUM")) if np.isfinite(limit)]
    if not bounds:
        step.store(entry.tensor, entry.order)
        return
    source = entry.tensor
    for limit, kind in bounds[:-1]:
        partial = step.temporary(source.shape)
        bound = step.writer.constant(f"{step.node.name}_bound", np.full((1,) * len(source.shape), limit, np.float32))
        step.writer.emit(kind, [source, bound], partial, "MaximumMinimumOptions")
        source = partial
    limit, kind = bounds[-1]
    bound = step.writer.constant(f"{step.node.name}_bound", np.full((1,) * len(source.shape), limit, np.float32))
    step.write(kind, [source, bound], entry.order, "MaximumMinimumOptions")


def _bounds(step: Step) -> tuple[float, float]:
    if step.node.op_type == "Relu":
        return 0.0, float("inf")
    limits = [-float("inf"), float("inf")]
    for index in range(1, 3):
        if index < len(step.node.inputs) and step.node.inputs[index] is not None:
            limits[index - 1] = float(step.required(index, "bound").reshape(()))
    return limits[0], limits[1]


@operator("LeakyRelu", kind="kernel")
def leaky(step: Step) -> None:
    """LEAKY_RELU."""
    entry = step.input(0)
    step.write("LEAKY_RELU", [entry.tensor], entry.order, "LeakyReluOptions", {"alpha": step.number("alpha", 0.01)})


@operator("PRelu", kind="kernel", slow=True)
def parametric(step: Step) -> None:
    """PRELU with constant slopes, which the file has without the batch."""
    slope = step.required(1, "slope")
    entry = step.input(0)
    rank = len(entry.order)
    if entry.order[0] != 0:
        entry = step.input(0, natural(rank))
    slope = slope.reshape((1,) * (rank - slope.ndim) + slope.shape)
    if slope.shape[0] != 1:
        raise Unsupported("it has a slope of its own for each sample")
    alpha = step.constant_operand(f"{step.node.name}_slope", slope.transpose(entry.order)[0])
    step.write("PRELU", [entry.tensor, alpha], entry.order)


@operator("HardSigmoid", kind="kernel", slow=True)
def hard_sigmoid(step: Step) -> None:
    """relu6(6 alpha x + 6 beta) / 6: a MUL, which changes the scale only, an ADD with RELU6, and a MUL."""
    alpha, beta = step.number("alpha", 0.2), step.number("beta", 0.5)
    entry, wanted = step.input(0), step.encoding
    source = entry.tensor
    factor = 6 * alpha
    six: Encoding | None = None
    scaled: Encoding | None = source.encoding
    if step.is_integer and source.encoding is not None:
        bits = source.encoding.qtype.bits
        six = Encoding.of_range(Range(0.0, 6.0), QuantType(bits, True, bits == 16))
        scale = np.asarray(source.encoding.scale * np.float32(factor), np.float32)
        scaled = Encoding(scale, source.encoding.zero_point, source.encoding.qtype)
    ones = (1,) * len(source.shape)
    if not np.isclose(factor, 1.0, rtol=1e-3):
        part = step.temporary(source.shape, scaled)
        by = step.constant_operand(f"{step.node.name}_factor", np.full(ones, factor, np.float32))
        step.writer.emit("MUL", [source, by], part, "MulOptions")
        source = part
    part = step.temporary(source.shape, six)
    offset = step.constant_operand(f"{step.node.name}_offset", np.full(ones, 6 * beta, np.float32))
    step.writer.emit("ADD", [source, offset], part, "AddOptions", {"fusedActivationFunction": "RELU6"})
    step.encoding = wanted
    sixth = step.constant_operand(f"{step.node.name}_sixth", np.full(ones, 1 / 6, np.float32))
    step.write("MUL", [part, sixth], entry.order, "MulOptions")


@operator("Elu")
def elu(step: Step) -> None:
    """ELU, whose alpha is 1."""
    if step.number("alpha", 1.0) != 1.0:
        raise Unsupported(f"its alpha is {step.number('alpha', 1.0):g}, and LiteRT's is 1")
    entry = step.input(0)
    step.write("ELU", [entry.tensor], entry.order)


@operator("Softplus")
def softplus(step: Step) -> None:
    """relu(x) + log(1 + exp(-abs(x)))."""
    entry, writer = step.input(0), step.writer
    parts = [step.temporary(entry.tensor.shape) for _ in range(5)]
    one = writer.constant("one", np.ones(1, np.float32))
    writer.emit("ABS", [entry.tensor], parts[0])
    writer.emit("NEG", [parts[0]], parts[1])
    writer.emit("EXP", [parts[1]], parts[2])
    writer.emit("ADD", [parts[2], one], parts[3], "AddOptions")
    writer.emit("LOG", [parts[3]], parts[4])
    positive = step.temporary(entry.tensor.shape)
    writer.emit("RELU", [entry.tensor], positive)
    step.write("ADD", [positive, parts[4]], entry.order, "AddOptions")


@operator("LogSoftmax")
def log_softmax(step: Step) -> None:
    """LOG_SOFTMAX over the last axis of the file."""
    rank = len(step.shape)
    axis = step.integer("axis", -1) % rank
    order = (*(a for a in step.input(0).order if a != axis), axis)
    step.write("LOG_SOFTMAX", [step.input(0, order).tensor], order, "LogSoftmaxOptions")
