"""Each rule of the checker, with a file that breaks it and the same file mended; both are written by hand."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from dfq_deploy.checking import RULES, check
from dfq_deploy.targets.catalog import TARGETS

Arrays = Mapping[str, NDArray[Any]]

ModelOf = Callable[..., onnx.ModelProto]

Write = Callable[..., onnx.ModelProto]

IMAGE = "float[1,4,8,8] x"


def scales(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def scalar(value: float, dtype: type = np.float32) -> NDArray[Any]:
    return np.array(value, dtype)


U8: Arrays = {
    # An activation's scale and zero point, and another's; a weight, its scales and zero points; a bias of s * v.
    **{"s": scalar(0.5), "z": scalar(0, np.uint8), "s2": scalar(0.25), "z2": scalar(0, np.uint8)},
    **{"w": np.ones((4, 4, 1, 1), np.int8), "v": scales(1, 2, 3, 4), "o": np.zeros(4, np.int8)},
    **{"b": np.ones(4, np.int32), "t": scales(0.5, 1, 1.5, 2), "bf": np.ones(4, np.float32)},
    **{"wf": np.ones((4, 4, 1, 1), np.float32)},
}
"""Arrays of a file with u8 activations; the nodes below name them."""

S8: Arrays = {**U8, "z": scalar(0, np.int8), "z2": scalar(0, np.int8)}

PER_TENSOR: Arrays = {
    **U8,
    **{"w": np.ones((4, 4, 1, 1), np.uint8), "v": scalar(2), "o": scalar(0, np.uint8), "t": scalar(1)},
}

READ = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
WEIGHT = "e = DequantizeLinear <axis = 0> (w, v, o)"
BIAS = "f = DequantizeLinear <axis = 0> (b, t)"
CONV = "c = Conv(d, e, f)"
WRITE = "p = QuantizeLinear(c, s2, z2) y = DequantizeLinear(p, s2, z2)"
PLAIN = f"{READ} {WEIGHT} {BIAS} {CONV} {WRITE}"
EXPLICIT = f"{READ} {WEIGHT} y = Conv(d, e, bf)"
"""As TensorRT wants it."""

ADVICE = (
    *("concat-scale", "residual-branch", "quantized-output", "split-activation", "fixed-scale", "moved-scale"),
    *("left-to-cpu", "newer-chip", "saturating-sums", "token-product"),
)
"""Rules that no builder enforces: what breaks only them is clean."""

HALF = ("y", "its input is float")
"""What is said of a quantized weight that meets a float activation."""


@dataclass(frozen=True)
class Case:
    """A file that breaks one rule, and the same mended.

    Args:
        broken, mended: nodes.
        where: the node, input or output that is named, and words of what is found there.
        arrays: of the mended file; ``wrong`` replaces some in the broken one.
        inputs: of the mended file; ``wrong_input`` replaces them in the broken one.
    """

    rule: str
    target: str
    broken: str
    mended: str
    where: tuple[str, str]
    arrays: Arrays = field(default_factory=dict)
    wrong: Arrays = field(default_factory=dict)
    inputs: str = IMAGE
    wrong_input: str = ""
    opset: int = 17
    wrong_opset: int = 17


def plain(rule: str, target: str, where: tuple[str, str], arrays: Arrays, wrong: Arrays) -> Case:
    """A case whose nodes are right, and an array is not."""
    nodes = EXPLICIT if target == "tensorrt" else PLAIN
    return Case(rule, target, nodes, nodes, where, arrays, wrong)


CHANNELS_1 = WEIGHT.replace("axis = 0", "axis = 1")
ADDED = f"{READ} {WEIGHT} c = Conv(d, e, bf)"
TWO = f"{READ} {WEIGHT} c = Conv(d, e, bf) r = Relu(c)"

PRODUCT = f"{READ} e = DequantizeLinear <axis = 1> (w, v, o) c = MatMul(d, e) {WRITE}"

NORMALIZED = (
    "n = LayerNormalization <epsilon = 0.00001> (x, g, bf) q = QuantizeLinear(n, s, z) d = DequantizeLinear(q, s, z) "
    "e = DequantizeLinear <axis = 1> (w, v, o) m = MatMul(d, e)"
)
SHORT = "p = QuantizeLinear(r, s2, z2) y = DequantizeLinear(p, s2, z2)"

FORK = (
    f"{READ} {WEIGHT} c = Conv(d, e) k = Conv(d, e) "
    "cq = QuantizeLinear(c, s2, z2) cd = DequantizeLinear(cq, s2, z2) kq = QuantizeLinear(k, s2, z2) "
    "kd = DequantizeLinear(kq, s2, z2) g = Add(cd, kd) p = QuantizeLinear(g, s2, z2) y = DequantizeLinear(p, s2, z2)"
)

TOKEN = (
    f"{PLAIN.replace(' y = ', ' g = ')} h = Shape(x) m = Gather(h, i0) u = Unsqueeze(m, a0) "
    "k = Concat <axis = 0> (u, rest) r = Expand(token, k) y = Concat <axis = 2> (r, g)"
)

CASES = {
    "u8-for-tensorrt": plain(
        "activation-type", "tensorrt", ("q", "u8, not e4m3 or s8"), S8, {"z": scalar(0, np.uint8)}
    ),
    "s8-for-nnapi": plain(
        "activation-type", "nnapi", ("q", "s8, not u8"), PER_TENSOR, {"z": scalar(0, np.int8)}
    ),
    "int8-qlinear-for-nnapi": Case(
        "activation-type",
        "nnapi",
        "q = QuantizeLinear(x, s, z) p = QLinearConv(q, s, z, w, v, o, s2, z2) y = DequantizeLinear(p, s2, z2)",
        "q = QuantizeLinear(x, s, z) p = QLinearConv(q, s, z, w, v, o, s2, z2) y = DequantizeLinear(p, s2, z2)",
        ("p", "s8, not u8"),
        PER_TENSOR,
        {"z": scalar(0, np.int8), "z2": scalar(0, np.int8)},
    ),
    "float-8-weight": Case(
        "weight-type", "cpu", PLAIN, PLAIN, ("c", "u16, not s8 or u8"), U8,
        {"w": np.ones((4, 4, 1, 1), np.uint16), "o": np.zeros(4, np.uint16)}, opset=21, wrong_opset=21,
    ),
    "u8s8-for-xnnpack": plain("type-pair", "xnnpack", ("c", "u8s8"), S8, {"z": scalar(0, np.uint8)}),
    "s8u8-for-cpu": plain("type-pair", "cpu", ("c", "s8u8"), PER_TENSOR, {"z": scalar(0, np.int8)}),
    "computed-scale": Case(
        "constant-parameters",
        "cpu",
        f"m = ReduceMax <keepdims = 0> (x) q = QuantizeLinear(x, m, z) d = DequantizeLinear(q, s, z) "
        f"{WEIGHT} {BIAS} {CONV} {WRITE}",
        PLAIN,
        ("q", "its scale is computed"),
        U8,
    ),
    "zero-scale": plain("positive-scale", "cpu", ("p", "its scale is 0"), U8, {"s2": scalar(0)}),
    "two-scales-of-an-activation": plain(
        "per-tensor-activation", "tensorrt", ("q", "4 scales"), S8, {"s": scales(1, 1, 1, 1), "z": np.zeros(4, np.int8)}
    ),
    "per-channel-gemm-for-qnn": Case(
        "per-channel-weight",
        "qnn",
        f"{READ} {WEIGHT} c = Gemm <transB = 1> (d, e) {WRITE}",
        f"{READ} {WEIGHT} c = Gemm <transB = 1> (d, e) {WRITE}",
        ("c", "4 scales"),
        {**U8, "w": np.ones((4, 4), np.int8), "v": scalar(1), "o": scalar(0, np.int8)},
        {"v": scales(1, 2, 3, 4), "o": np.zeros(4, np.int8)},
        inputs="float[1,4] x",
    ),
    "wrong-axis": Case(
        "channel-axis",
        "tensorrt",
        EXPLICIT.replace(WEIGHT, CHANNELS_1),
        EXPLICIT,
        ("y", "axis 1, the output channels on 0"),
        S8,
    ),
    "wrong-axis-of-a-transposed-weight": Case(
        "channel-axis",
        "tensorrt",
        f"{READ} {CHANNELS_1} h = Transpose(e) y = MatMul(d, h)",
        f"{READ} {WEIGHT} h = Transpose(e) y = MatMul(d, h)",
        ("y", "axis 0, the output channels on 1"),
        {**S8, "w": np.ones((4, 4), np.int8)},
        inputs="float[2,4] x",
    ),
    "channels-with-zero-points": plain(
        "symmetric-channels", "qnn", ("c", "zero points"), U8, {"o": np.array([0, 3, 0, 0], np.int8)}
    ),
    "unsigned-channels": plain(
        "symmetric-channels",
        "nnapi",
        ("c", "u8 with one scale per channel"),
        U8,
        {"w": np.ones((4, 4, 1, 1), np.uint8), "o": np.zeros(4, np.uint8)},
    ),
    "zero-point-for-tensorrt": plain("zero-point", "tensorrt", ("q", "is 3"), S8, {"z": scalar(3, np.int8)}),
    "float-layer": Case(
        "float-weighted", "cpu", f"{READ} c = Conv(d, wf, bf) {WRITE}", PLAIN, ("c", "its weight is float"), U8
    ),
    "float-model": Case("float-weighted", "cpu", "y = Conv(x, wf)", PLAIN, ("y", "its input and weight is float"), U8),
    "weight-alone-on-cpu": Case("float-weighted", "cpu", f"{WEIGHT} y = Conv(x, e)", PLAIN, HALF, U8),
    "weight-alone-on-tensorrt": Case(
        "float-weighted", "tensorrt", f"{WEIGHT} y = Conv(x, e)", EXPLICIT, HALF, {**S8, "bf": np.ones(4, np.float32)}
    ),
    "weight-alone-on-qnn": Case("float-weighted", "qnn", f"{WEIGHT} y = Conv(x, e)", PLAIN, HALF, U8),
    # The first layer is quantized whole, the second one reads what the activation wrote in float.
    "weight-alone-behind-an-activation": Case(
        "float-weighted", "cpu", f"{READ} {WEIGHT} c = Conv(d, e) r = Relu(c) y = Conv(r, e)", PLAIN, HALF, U8
    ),
    "weight-alone-where-there-is-no-kernel": Case(
        "float-weighted", "cpu", f"{WEIGHT} y = ConvTranspose(x, e)", PLAIN, HALF, U8
    ),
    "per-channel-before-13": Case(
        "opset", "cpu", PLAIN.replace(" <axis = 0>", ""), PLAIN, ("e", "opset 13; the file has 12"), U8, wrong_opset=12
    ),
    "newer-than-the-browser": Case(
        "newest-opset", "web", PLAIN, PLAIN, ("the model", "its opset is 27, and"), U8, wrong_opset=27
    ),
    "16-bits-before-21": Case(
        "opset", "qnn", PLAIN, PLAIN, ("q", "u16 needs opset 21"), {**U8, "z": scalar(0, np.uint16)}, opset=21
    ),
    "bias-of-another-scale": plain(
        "integer-bias",
        "cpu",
        ("c", "scale 0.5, not the product of activation and weight scale 0.5"),
        U8,
        {"t": scales(0.5, 1, 1, 2)},
    ),
    "bias-in-float": Case(
        "integer-bias", "xnnpack", PLAIN.replace("e, f", "e, bf"), PLAIN, ("c", "its bias is float"), S8
    ),
    "bias-in-integers-for-tensorrt": Case(
        "float-bias", "tensorrt", EXPLICIT.replace("bf)", "f)").replace(" y =", f" {BIAS} y ="), EXPLICIT,
        ("y", "its bias is s32"), S8,
    ),
    "float-output-without-floats": Case(
        "float-output", "rknn-rv1106", EXPLICIT, f"{READ} {WEIGHT} c = Conv(d, e, bf) {WRITE}",
        ("y", "its output 'y' is float"), S8,
    ),
    "product-of-sequences-without-floats": Case(
        "token-product", "rknn-rv1106", PRODUCT, PRODUCT, ("c", "refused that of a transformer"),
        {**S8, "w": np.ones((4, 4), np.int8)}, inputs="float[2,4] x", wrong_input="float[1,2,4] x",
    ),
    "float-product-behind-a-normalization": Case(
        "float-product", "rknn", f"{NORMALIZED} a = Add(m, bf) r = Relu(a) {SHORT}",
        f"{NORMALIZED} k = QuantizeLinear(m, s, z) h = DequantizeLinear(k, s, z) a = Add(h, bf) r = Relu(a) {SHORT}",
        ("m", "its product 'm' is float"),
        {**S8, "w": np.ones((4, 4), np.int8), "g": np.ones(4, np.float32)}, inputs="float[1,4] x",
    ),
    "qlinear-for-tensorrt": Case(
        "qdq-format",
        "tensorrt",
        "q = QuantizeLinear(x, s, z) p = QLinearConv(q, s, z, w, v, o, s2, z2) y = DequantizeLinear(p, s2, z2)",
        EXPLICIT,
        ("p", "no such operator"),
        S8,
    ),
    "concat-of-two-scales": Case(
        "concat-scale",
        "tensorrt",
        f"{READ} {WEIGHT} q2 = QuantizeLinear(x, s2, z) d2 = DequantizeLinear(q2, s2, z) "
        "k = Concat <axis = 0> (d, d2) q3 = QuantizeLinear(k, s, z) d3 = DequantizeLinear(q3, s, z) y = Conv(d3, e)",
        f"{READ} {WEIGHT} q2 = QuantizeLinear(x, s, z) d2 = DequantizeLinear(q2, s, z) "
        "k = Concat <axis = 0> (d, d2) q3 = QuantizeLinear(k, s, z) d3 = DequantizeLinear(q3, s, z) y = Conv(d3, e)",
        ("k", "'d2' has scale 0.25, its output scale 0.5"),
        S8,
    ),
    "float-residual": Case(
        "residual-branch", "tensorrt", f"{ADDED} y = Add(c, x)", f"{ADDED} y = Add(c, d)", ("y", "'x' is float"), S8
    ),
    "float-shortcut-convolution": Case(
        "residual-branch",
        "tensorrt",
        f"{TWO} q2 = QuantizeLinear(r, s2, z) d2 = DequantizeLinear(q2, s2, z) m = Conv(d2, e) n = Conv(d, e) "
        "y = Add(m, n)",
        f"{TWO} q2 = QuantizeLinear(r, s2, z) d2 = DequantizeLinear(q2, s2, z) m = Conv(d2, e) n = Conv(d, e) "
        "q3 = QuantizeLinear(n, s2, z) d3 = DequantizeLinear(q3, s2, z) y = Add(m, d3)",
        ("y", "'n' is float"),
        S8,
    ),
    "quantized-logits": Case(
        "quantized-output",
        "tensorrt",
        f"{ADDED} q2 = QuantizeLinear(c, s2, z) y = DequantizeLinear(q2, s2, z)",
        f"{ADDED} y = Identity(c)",
        ("c", "'y' follows it"),
        S8,
    ),
    "quantized-main-branch": Case(
        "quantized-output",
        "tensorrt",
        f"{ADDED} q2 = QuantizeLinear(c, s2, z) d2 = DequantizeLinear(q2, s2, z) y = Add(d2, d)",
        f"{ADDED} y = Add(c, d)",
        ("c", "'d2' follows it"),
        S8,
    ),
    "split-from-its-relu": Case(
        "split-activation",
        "tensorrt",
        f"{ADDED} q2 = QuantizeLinear(c, s2, z) d2 = DequantizeLinear(q2, s2, z) y = Relu(d2)",
        f"{ADDED} r = Relu(c) q2 = QuantizeLinear(r, s2, z) d2 = DequantizeLinear(q2, s2, z) y = Conv(d2, e)",
        ("c", "'d2' stands between it and Relu 'y'"),
        S8,
    ),
    "sigmoid-of-any-scale-for-litert": Case(
        "fixed-scale",
        "litert",
        f"{READ} g = Sigmoid(d) p = QuantizeLinear(g, s2, z2) y = DequantizeLinear(p, s2, z2)",
        f"{READ} g = Sigmoid(d) p = QuantizeLinear(g, s2, z2) y = DequantizeLinear(p, s2, z2)",
        ("g", "its output has scale 0.25, its kernel writes 0.00390625"),
        {**S8, "s2": scalar(1 / 256), "z2": scalar(-128, np.int8)},
        {"s2": scalar(0.25)},
    ),
    "pooling-of-two-scales-for-litert": Case(
        "moved-scale",
        "litert",
        f"{READ} g = AveragePool <kernel_shape = [2, 2]> (d) "
        "p = QuantizeLinear(g, s2, z) y = DequantizeLinear(p, s2, z)",
        f"{READ} g = AveragePool <kernel_shape = [2, 2]> (d) p = QuantizeLinear(g, s, z) y = DequantizeLinear(p, s, z)",
        ("g", "'d' and 'p' have different scales"),
        S8,
    ),
    "neighbors-of-one-sign": Case(
        "saturating-sums", "cpu", PLAIN, PLAIN, ("c", "add up to 129"), U8,
        {"w": np.array([[65, 64, -3, 9]], np.int8).repeat(4, 0).reshape(4, 4, 1, 1)},
    ),
    "s8-read-twice": Case(
        "shared-int8", "cpu", FORK, FORK, ("q", "2 operators"), U8,
        {"z": scalar(0, np.int8), "z2": scalar(0, np.int8)},
    ),
    "open-batch-for-qnn": Case(
        "static-shape", "qnn", PLAIN, PLAIN, ("x", "(n, 4, 8, 8) (--input-shape x:1,4,8,8)"), U8,
        wrong_input="float[n,4,8,8] x",
    ),
    "open-height-for-xnnpack": Case(
        "static-sample", "xnnpack", PLAIN, PLAIN, ("x", "(n, 4, h, 8)"), S8, wrong_input="float[n,4,h,8] x"
    ),
    "one-dimensional-convolution": Case(
        "two-dimensional", "nnapi", f"h = Reshape(x, to3) {PLAIN.replace('(x', '(h')}", PLAIN, ("c", "3 dimensions"),
        PER_TENSOR, {"w": np.ones((4, 4, 1), np.uint8), "to3": np.array([1, 4, 64])},
    ),
    "computed-bias": Case(
        "constant-weight",
        "nnapi",
        f"{READ} {WEIGHT} h = ReduceMax <axes = [0, 2, 3], keepdims = 0> (x) c = Conv(d, e, h) {WRITE}",
        PLAIN,
        ("c", "its bias is computed"),
        PER_TENSOR,
    ),
    "operator-that-qnn-lacks": Case(
        "operator",
        "qnn",
        f"{PLAIN.replace(' y = ', ' g = ')} h = Celu(g) q5 = QuantizeLinear(h, s, z) y = DequantizeLinear(q5, s, z)",
        f"{PLAIN.replace(' y = ', ' g = ')} h = Elu(g) q5 = QuantizeLinear(h, s, z) y = DequantizeLinear(q5, s, z)",
        ("h", "has no Celu"),
        U8,
    ),
    "operator-that-nnapi-lacks": Case(
        "left-to-cpu", "nnapi", f"{PLAIN.replace(' y = ', ' g = ')} y = HardSwish(g)",
        f"{PLAIN.replace(' y = ', ' g = ')} y = Relu(g)", ("y", "leaves HardSwish to the CPU"), U8,
    ),
    "token-for-openvino": Case(
        "expanded-concat", "openvino", TOKEN, TOKEN, ("y", "Expand of open size"),
        {
            **U8, "token": np.ones((1, 4, 1, 8), np.float32), "i0": np.array(0), "a0": np.array([0]),
            "rest": np.array([4, 1, 8]),
        },
        wrong_input="float[n,4,8,8] x",
    ),
    "operator-of-newer-chips": Case(
        "newer-chip", "qnn",
        f"{PLAIN.replace(' y = ', ' g = ')} h = Selu(g) q5 = QuantizeLinear(h, s, z) y = DequantizeLinear(q5, s, z)",
        f"{PLAIN.replace(' y = ', ' g = ')} h = Elu(g) q5 = QuantizeLinear(h, s, z) y = DequantizeLinear(q5, s, z)",
        ("h", "soc models 36, 43 and 60"), U8,
    ),
    "float-between": Case(
        "float-tensor",
        "qnn",
        f"{READ} {WEIGHT} {BIAS} {CONV} y = Sigmoid(c)",
        f"{READ} {WEIGHT} {BIAS} {CONV} p = QuantizeLinear(c, s2, z2) g = DequantizeLinear(p, s2, z2) h = Sigmoid(g) "
        "q5 = QuantizeLinear(h, s, z) y = DequantizeLinear(q5, s, z)",
        ("y", "its output 'y' is float"),
        U8,
    ),
}  # fmt: skip


@pytest.fixture
def write(model_of: ModelOf) -> Write:
    """Writes nodes as text, with only those arrays that they name."""

    def build(nodes: str, arrays: Arrays, *, inputs: str = IMAGE, opset: int = 17) -> onnx.ModelProto:
        words = set(nodes.replace(",", " ").replace("(", " ").replace(")", " ").split())
        used = {name: array for name, array in arrays.items() if name in words}
        model = model_of(inputs, "float y", nodes, used, opset=opset)
        for node in model.graph.node:
            node.name = node.output[0]
        return model

    return build


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_rule(case: Case, write: Write) -> None:
    mended = check(write(case.mended, case.arrays, inputs=case.inputs, opset=case.opset), case.target)
    assert [str(violation) for violation in mended.violations] == []
    arrays = {**case.arrays, **case.wrong}
    wrong = write(case.broken, arrays, inputs=case.wrong_input or case.inputs, opset=case.wrong_opset)
    broken = check(wrong, case.target)
    node, words = case.where
    assert broken.clean == (case.rule in ADVICE)
    assert any(
        (violation.rule, violation.node) == (case.rule, node)
        and words in violation.found
        and violation.level == ("advice" if case.rule in ADVICE else "error")
        for violation in broken.violations
    ), [str(violation) for violation in broken.violations]


def test_every_rule_has_a_case_and_a_target() -> None:
    assert {case.rule for case in CASES.values()} == set(RULES)
    assert {rule for target in TARGETS.values() for rule in target.rules} == set(RULES)


def integer_convolutions(model: onnx.ModelProto, folder: Path) -> int:
    """How many ONNX Runtime makes of a file's."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node].count("QLinearConv")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="on Arm s8 activations stay")
def test_onnx_runtime_leaves_convolutions_behind_shared_int8_in_float(write: Write, tmp_path: Path) -> None:
    case = CASES["s8-read-twice"]
    assert integer_convolutions(write(case.mended, case.arrays), tmp_path) == 2
    assert integer_convolutions(write(case.broken, {**case.arrays, **case.wrong}), tmp_path) == 0


@pytest.mark.parametrize(("weight", "found"), [("e", True), ("t", False)])
def test_sums_are_looked_at_in_the_order_of_the_kernel_alone(write: Write, weight: str, found: bool) -> None:
    """A Transpose between makes other weights neighbors."""
    between = "" if weight == "e" else "t = Transpose <perm = [1, 0]> (e) "
    nodes = f"q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(w, s) {between}"
    arrays = {"s": scalar(0.1), "z": scalar(0, np.uint8), "w": np.array([[100, 1], [90, 2]], np.int8)}
    model = write(f"{nodes}y = MatMul(d, {weight})", arrays, inputs="float[n,2] x")
    assert ("saturating-sums" in {violation.rule for violation in check(model, "cpu").violations}) == found
