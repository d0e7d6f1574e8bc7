"""Every operator: LiteRT on the written file against ONNX Runtime on the model, in floats and in integers."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from dfq_deploy.exporters.litert.conversion import converted
from dfq_deploy.exporters.litert.registry import OPERATORS
from dfq_deploy.exporters.litert.serialization import serialized
from dfq_deploy.exporters.litert.tensors import Graph
from dfq_deploy.exporters.qdq import quantized_model
from numpy.typing import NDArray

from dfq_deploy import Samples, load
from dfq_deploy.pipeline.outcome import closed_model
from dfq_deploy.plugins.registry import calibrator_of
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.runtime.litert.interpreter import LiteRtModel
from dfq_deploy.targets.catalog import TARGETS
from dfq_deploy.targets.operator_lists import LITERT_OPS

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install 'dfq-deploy[litert]'")

ModelOf = Callable[..., onnx.ModelProto]

SHAPES: dict[str, tuple[int, ...]] = {
    **{"w": (6, 4, 3, 3), "d": (8, 1, 3, 3), "g": (6, 2, 3, 3), "b": (6,), "p": (8, 4, 1, 1), "q": (6, 4, 3)},
    **{"t": (4, 5, 3, 3), "t2": (4, 5, 2, 2), "tg": (4, 3, 3, 3), "m": (256, 5), "mb": (5,), "k": (8, 7), "kb": (7,)},
    **{"c": (4, 1, 1), "row": (8,), "slope": (4, 1, 1), "l": (8,), "e": (3, 5)},
}

NUMBERS: dict[str, Any] = {
    **{"zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "root": np.sqrt(2.0)},
    **{"low": -0.4, "high": 0.9},
}

INTEGERS: dict[str, Any] = {
    **{"flat": [1, -1], "parts": [1, 2, 2, 8, 8], "back": [1, 4, 8, 8], "s1": [1, 1], "e1": [7, -1], "ax": [2, 3]},
    **{"st": [2, 3], "first": [0], "last": [-1], "pads": [0, 0, 1, 2, 0, 0, 0, 1], "axes1": [1], "axes2": [2, 3]},
    **{"double": [1, 4, 16, 16], "odd": [1, 4, 11, 13], "i": [3, 0, 1], "i0": 2, "sizes": [1, 3], "rep": [1, 2, 1, 1]},
    **{"reverse": [-100], "minus": [-1], "big": [1, 4, 8, 8], "three_d": [1, 4, 64], "upper": [0, 1, 0, 1, 0, 0, 0, 0]},
}

FLOAT_CASES = {
    "conv": "y = Conv <pads=[1,1,1,1]> (x, w, b)",
    "conv-valid-stride": "y = Conv <strides=[2,2]> (x, w)",
    "conv-stride-padded": "y = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w, b)",
    "conv-uneven-pads": "y = Conv <pads=[0,2,1,0]> (x, w, b)",
    "conv-same-upper": 'y = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w, b)',
    "conv-same-lower": 'y = Conv <auto_pad="SAME_LOWER", strides=[2,2]> (x, w, b)',
    "conv-dilated": "y = Conv <dilations=[2,2], pads=[2,2,2,2]> (x, w, b)",
    "conv-relu6": "a = Conv (x, w, b) y = Clip (a, zero, six)",
    "conv-clip": "a = Conv (x, w, b) y = Clip (a, low, high)",
    "depthwise": "y = Conv <group=4, pads=[1,1,1,1]> (x, d)",
    "grouped": "y = Conv <group=2> (x, g, b)",
    "conv-1d": "r = Reshape (x, three_d) y = Conv <pads=[1,1], strides=[2]> (r, q, b)",
    "transposed": "y = ConvTranspose <strides=[2,2]> (x, t)",
    "transposed-same": "y = ConvTranspose <strides=[2,2]> (x, t2)",
    "transposed-padded": "y = ConvTranspose <strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]> (x, t)",
    "transposed-grouped": "y = ConvTranspose <group=2, pads=[1,1,1,1]> (x, tg)",
    "flatten-gemm": "c = Conv <pads=[1,1,1,1]> (x, w4) r = Relu (c) f = Flatten (r) "
    "y = Gemm <alpha=0.5, beta=2.0> (f, m, mb)",
    "reshape-gemm-t": "c = Relu (x) f = Reshape (c, flat) y = Gemm <transB=1> (f, mt, mb)",
    "matmul": "a = MatMul (x, k) y = Add (a, kb)",
    "attention": "a = Transpose <perm=[0,1,3,2]> (x) s = MatMul (x, a) p = Softmax <axis=-1> (s) y = MatMul (p, x)",
    "gemm-computed": "f = Reshape (x, [32]) y = Gemm <transB=1> (f, f)",
    "softmax-channels": "y = Softmax <axis=1> (x)",
    "arithmetic": "a = Add (x, c) s = Sub (a, row) m = Mul (s, x) d = Div (m, three) e = Max (d, x) y = Min (e, half)",
    "div-computed": "s = Sigmoid (x) a = Add (s, one) y = Div (x, a)",
    "sum": "a = Abs (x) y = Sum (x, a, x)",
    "functions": "a = Abs (x) b1 = Add (a, one) l = Log (b1) s = Sqrt (b1) e = Exp (l) n = Neg (e) f = Floor (n) "
    "r = Reciprocal (b1) t = Add (f, r) y = Add (t, s)",
    "power": "a = Abs (x) y = Pow (a, two)",
    "activations": "a = Sigmoid (x) t = Tanh (x) e = Elu (x) h = HardSwish (x) k = LeakyRelu <alpha=0.2> (x) "
    "p = Softplus (x) g = HardSigmoid <alpha=0.3, beta=0.4> (x) y = Sum (a, t, e, h, k, p, g)",
    "prelu": "y = PRelu (x, slope)",
    "gelu": "d = Div (x, root) e = Erf (d) a = Add (e, one) m = Mul (x, a) y = Mul (m, half)",
    "gelu-other": "h = Mul (x, half) d = Div (x, root) e = Erf (d) a = Add (e, one) y = Mul (h, a)",
    "max-pool": "y = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (x)",
    "max-pool-ceil": "y = MaxPool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (x)",
    "average-pool": "y = AveragePool <kernel_shape=[2,2], strides=[2,2]> (x)",
    "average-pool-same": "y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (x)",
    "average-pool-counted": "y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (x)",
    "average-pool-padded": "y = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (x)",
    "average-pool-ceil": "y = AveragePool <kernel_shape=[3,3], strides=[2,2], ceil_mode=1> (x)",
    "global-pools": "a = GlobalAveragePool (x) m = GlobalMaxPool (x) y = Add (a, m)",
    "reductions": "a = ReduceMean <axes=[1], keepdims=1> (x) s = ReduceSum <keepdims=1> (x, axes1) "
    "m = ReduceMax <axes=[1]> (x) n = ReduceMin <axes=[1]> (x) y = Sum (a, s, m, n)",
    "reduce-away": "y = ReduceMean <axes=[2,3], keepdims=0> (x)",
    "shuffle": "r = Reshape (x, parts) t = Transpose <perm=[0,2,1,3,4]> (r) y = Reshape (t, back)",
    "squeezes": "a = GlobalAveragePool (x) s = Squeeze (a, axes2) y = Unsqueeze (s, minus)",
    "slices": "y = Slice (x, s1, e1, ax)",
    "strided-slice": "y = Slice (x, s1, e1, ax, st)",
    "reversed": "y = Slice (x, last, reverse, axes1, minus)",
    "split": "a, e2 = Split <axis=1> (x) y = Concat <axis=2> (e2, a)",
    "split-sizes": "a, e2 = Split <axis=1> (x, sizes) y = Concat <axis=1> (e2, a)",
    "pad": "y = Pad (x, pads)",
    "pad-value": "y = Pad (x, pads, half)",
    "pad-reflect": 'y = Pad <mode="reflect"> (x, pads)',
    "gather": "g1 = Gather <axis=1> (x, i) y = Gather <axis=2> (g1, i0)",
    "tile-expand": "t = Tile (x, rep) a = GlobalAveragePool (x) e2 = Expand (a, big) y = Concat <axis=1> (t, e2)",
    "nearest": 'y = Resize <mode="nearest"> (x, , , double)',
    "nearest-floor": 'y = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> '
    "(x, , , odd)",
    "nearest-other-grid": 'y = Resize <mode="nearest", nearest_mode="ceil"> (x, , , odd)',
    "linear": 'y = Resize <mode="linear", coordinate_transformation_mode="half_pixel"> (x, , , odd)',
    "linear-corners": 'y = Resize <mode="linear", coordinate_transformation_mode="align_corners"> (x, , , odd)',
    "depth-to-space": "y = DepthToSpace <blocksize=2> (x)",
    "depth-to-space-crd": 'y = DepthToSpace <blocksize=2, mode="CRD"> (x)',
    "space-to-depth": "y = SpaceToDepth <blocksize=2> (x)",
    "layer-norm": "y = LayerNormalization (x, row, l)",
    "instance-norm": "y = InstanceNormalization (x, scale4, bias4)",
    "batch-norm": "y = BatchNormalization (x, scale4, bias4, mean4, var4)",
    "choice": "a = Greater (x, zero) n = Not (a) l2 = Less (x, half) o = And (n, l2) y = Where (o, x, one)",
    "cast": "a = Cast <to=6> (x) y = Cast <to=1> (a)",
    "arg-max": "a = ArgMax <axis=1> (x) y = Cast <to=1> (a)",
    "log-softmax": "y = LogSoftmax <axis=1> (x)",
}

INTEGER_CASES: dict[str, tuple[str, set[str]]] = {
    "classifier": (
        "c = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w, b) r = Relu (c) p = GlobalAveragePool (r) f = Flatten (p) "
        "y = Gemm (f, e6, mb)",
        {"CONV_2D", "PAD", "MEAN", "FULLY_CONNECTED"},
    ),
    "depthwise": (
        "c = Conv <group=4, pads=[1,1,1,1]> (x, d) r = Clip (c, zero, six) y = Conv (r, w8)",
        {"DEPTHWISE_CONV_2D", "CONV_2D"},
    ),
    "residual": (
        "c = Conv <pads=[1,1,1,1]> (x, w4) a = Add (c, x) r = Relu (a) s = Sub (r, c) m = Mul (s, r) y = Conv (m, w)",
        {"CONV_2D", "ADD", "SUB", "MUL"},
    ),
    "constants": (
        "c = Conv (x, w4) a = Add (c, three) h = Clip (a, zero, six) m = Mul (c, h) k2 = Mul (m, half) "
        "y = Conv (k2, w)",
        {"CONV_2D", "ADD", "MUL"},
    ),
    "concat": (
        "c = Conv <pads=[1,1,1,1]> (x, w4) k2 = Concat <axis=1> (c, x) y = Conv (k2, w8)",
        {"CONV_2D", "CONCATENATION"},
    ),
    "pools": (
        "c = Conv (x, w4) r = Relu (c) m = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (r) "
        "a = AveragePool <kernel_shape=[2,2]> (m) y = Conv <pads=[1,1,1,1]> (a, w)",
        {"CONV_2D", "PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D"},
    ),
    "gate": (
        "c = Conv <pads=[1,1,1,1]> (x, w4) g1 = GlobalAveragePool (c) h = HardSigmoid <alpha=0.2, beta=0.5> (g1) "
        "m = Mul (c, h) y = Conv (m, w)",
        {"CONV_2D", "MEAN", "MUL", "ADD"},
    ),
    "silu": ("c = Conv (x, w4) s = Sigmoid (c) m = Mul (c, s) y = Conv (m, w)", {"CONV_2D", "LOGISTIC", "MUL"}),
    "tanh": ("c = Conv (x, w4) s = Tanh (c) y = Conv (s, w)", {"CONV_2D", "TANH"}),
    "hard-swish": ("c = Conv (x, w4) s = HardSwish (c) y = Conv (s, w)", {"CONV_2D", "HARD_SWISH"}),
    "leaky": ("c = Conv (x, w4) s = LeakyRelu <alpha=0.1> (c) y = Conv (s, w)", {"CONV_2D", "LEAKY_RELU"}),
    "prelu": ("c = Conv (x, w4) s = PRelu (c, slope) y = Conv (s, w)", {"CONV_2D", "PRELU"}),
    "transposed": ("c = ConvTranspose <strides=[2,2]> (x, t2) y = Conv (c, w5)", {"TRANSPOSE_CONV", "CONV_2D"}),
    "transposed-padded": (
        "c = ConvTranspose <strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]> (x, t) y = Conv (c, w5)",
        {"TRANSPOSE_CONV", "CONV_2D", "SLICE"},
    ),
    "resize": (
        'c = Conv <pads=[1,1,1,1]> (x, w4) s = Resize <mode="nearest"> (c, , , double) y = Conv (s, w)',
        {"CONV_2D", "RESIZE_NEAREST_NEIGHBOR"},
    ),
    "moves": (
        "c = Conv <pads=[1,1,1,1]> (x, w4) r = Reshape (c, parts) t = Transpose <perm=[0,2,1,3,4]> (r) "
        "v = Reshape (t, back) s = Slice (v, s1, e1, ax) d2 = Pad (s, pads) y = Conv (d2, w)",
        {"CONV_2D", "RESHAPE", "TRANSPOSE", "SLICE", "PAD"},
    ),
    "split": (
        "c = Conv <pads=[1,1,1,1]> (x, w4) a, e2 = Split <axis=1> (c) k2 = Concat <axis=1> (e2, a) y = Conv (k2, w)",
        {"CONV_2D", "SPLIT", "CONCATENATION"},
    ),
    "attention": (
        "c = MatMul (x, k8) v = Add (c, row) a = Transpose <perm=[0,1,3,2]> (v) s = MatMul (v, a) "
        "p2 = Softmax <axis=-1> (s) y = MatMul (p2, v)",
        {"TRANSPOSE", "FULLY_CONNECTED", "BATCH_MATMUL", "SOFTMAX"},  # the input lies with its channels last
    ),
    "flattened": (
        "c = Conv <pads=[1,1,1,1]> (x, w4) r = Relu (c) f = Flatten (r) y = Gemm (f, m, mb)",
        {"CONV_2D", "RESHAPE", "FULLY_CONNECTED"},
    ),
}

MOVED = {"QUANTIZE", "DEQUANTIZE"}


def constants(nodes: str) -> dict[str, NDArray[Any]]:
    """The initializers that the text of a graph names."""
    random = np.random.default_rng(0)
    extra = {"w4": (4, 4, 3, 3), "w5": (6, 5, 3, 3), "w8": (6, 8, 3, 3), "mt": (5, 256), "e6": (6, 5), "k8": (8, 8)}
    arrays: dict[str, NDArray[Any]] = {
        name: (0.4 * random.normal(size=shape)).astype(np.float32) for name, shape in (SHAPES | extra).items()
    }
    arrays |= {name: np.array(number, np.float32) for name, number in NUMBERS.items()}
    arrays |= {name: np.array(numbers, np.int64) for name, numbers in INTEGERS.items()}
    arrays |= {f"{name}4": np.arange(1, 5, dtype=np.float32) / 3 for name in ("scale", "bias", "mean", "var")}
    words = set(re.findall(r"\w+", nodes))
    written = set(re.findall(r"(\w+) =", nodes)) | set(re.findall(r"(\w+), \w+ =", nodes))
    return {name: array for name, array in arrays.items() if name in words - written}


def model_for(nodes: str, model_of: ModelOf) -> onnx.ModelProto:
    """A model of x (n, 4, 8, 8)."""
    if "[32]" in nodes:
        nodes, given = nodes.replace("[32]", "wide"), {"wide": np.array([8, 32])}
    else:
        given = constants(nodes)
    model = model_of("float[1,4,8,8] x", "float y", nodes, given)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model)


def run(graph: Graph, feeds: dict[str, NDArray[Any]], *, xnnpack: bool = True) -> NDArray[Any]:
    """The first output in LiteRT."""
    found = LiteRtModel(serialized(graph, "test"), xnnpack=xnnpack).run(feeds)
    return next(iter(found.values()))


def test_the_table_of_the_target_lists_the_operators() -> None:
    # Dropout and Erf are removed or joined before.
    assert set(OPERATORS) | {"Dropout", "Erf"} == LITERT_OPS


@pytest.mark.parametrize("nodes", FLOAT_CASES.values(), ids=FLOAT_CASES)
def test_floats(nodes: str, model_of: ModelOf) -> None:
    model = model_for(nodes, model_of)
    feeds = {"x": np.random.default_rng(1).normal(0, 1.5, (1, 4, 8, 8)).astype(np.float32)}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    loaded = load(model)
    for channels_last in (True, False):
        found = run(converted(loaded, channels_last=channels_last), feeds)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


def quantized(model: onnx.ModelProto, bits: str | None = None) -> tuple[ir.Model, NDArray[np.float32]]:
    """The model with Q and DQ for the target, and samples that calibrated nothing."""
    target = TARGETS["litert"]
    images = np.random.default_rng(1).normal(0, 1.5, (16, 4, 8, 8)).astype(np.float32)
    prepared = prepare(load(model), target, Bits.parse(bits) if bits else None)
    made = encode(prepared, calibrator_of("minmax"), Samples(images[:8]))
    closed, encodings = closed_model(made.prepared.model, made.encodings, target, 1)
    return quantized_model(closed, encodings), images[8:]


@pytest.mark.parametrize(("nodes", "expected"), INTEGER_CASES.values(), ids=INTEGER_CASES)
def test_integers(nodes: str, expected: set[str], model_of: ModelOf) -> None:
    model, images = quantized(model_for(nodes, model_of))
    graph = converted(model, integer_only=True)
    codes = Counter(operation.code for operation in graph.operations)
    assert set(codes) - MOVED - {"RESHAPE"} == expected - {"RESHAPE"}
    # All in between is in integers, and no tensor is requantized: the placement fits LiteRT's constraints.
    assert {operation.code for operation in graph.operations if operation.outputs[0].encoding is None} == {"DEQUANTIZE"}
    assert (codes["QUANTIZE"], codes["DEQUANTIZE"]) == (1, 1)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    file = LiteRtModel(serialized(graph, "test"))
    reference = LiteRtModel(serialized(graph, "test"), xnnpack=False)
    for image in images:
        (theirs,) = session.run(None, {"x": image[None]})
        step = np.ptp(theirs) / 255
        for runner in (file, reference):
            ours = next(iter(runner.run({"x": image[None]}).values()))
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).mean() < 2 * step  # rounding differs by a step here and there
            assert np.abs(ours - theirs).max() < 8 * step


@pytest.mark.parametrize("name", ["gate", "hard-swish", "prelu"])
def test_floats_between_integers_where_these_have_no_fast_kernel(name: str, model_of: ModelOf) -> None:
    model, images = quantized(model_for(INTEGER_CASES[name][0], model_of))
    graph = converted(model)
    (index,) = [at for at, entry in enumerate(graph.operations) if entry.code == "DEQUANTIZE"][:-1]
    between = [entry.outputs[0].dtype for entry in graph.operations[index : index + 2]]
    assert between == [np.float32, np.float32]
    found = LiteRtModel(serialized(graph, "test"))
    delegation = found.delegation()
    assert (delegation.taken, delegation.left) == (delegation.total, {})
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": images[:1]})
    ours = next(iter(found.run({"x": images[:1]}).values()))
    assert np.abs(ours - theirs).max() < 4 * np.ptp(theirs) / 255


def test_a_relu_stays_where_no_integers_saturate_for_it(model_of: ModelOf) -> None:
    nodes = "c = Conv <pads=[1,1,1,1]> (x, w4) a = Transpose <perm=[0,1,3,2]> (c) s = MatMul (c, a) r = Relu (s) "
    model, images = quantized(model_for(f"{nodes} y = Conv (r, w)", model_of))
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": images[:1]})
    ours = run(converted(model), {"x": images[:1]})  # the product of two activations is in floats
    assert np.abs(ours - theirs).max() < 8 * np.ptp(theirs) / 255


@pytest.mark.parametrize("name", ["classifier", "residual", "silu", "concat", "leaky", "tanh"])
def test_activations_of_16_bits(name: str, model_of: ModelOf) -> None:
    nodes, expected = INTEGER_CASES[name]
    model, images = quantized(model_for(nodes, model_of), "w8a16")
    graph = converted(model)
    assert {operation.code for operation in graph.operations} - MOVED - {"RESHAPE"} == expected - {"RESHAPE"}
    assert {str(operation.outputs[0].dtype) for operation in graph.operations} == {"int16", "float32"}
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    for image in images[:2]:
        (theirs,) = session.run(None, {"x": image[None]})
        ours = run(graph, {"x": image[None]})
        assert np.abs(ours - theirs).max() < 0.003 * np.ptp(theirs)
