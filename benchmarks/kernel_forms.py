"""Which forms of a layer run in integers in ONNX Runtime, and how fast: seven Markdown tables.

usage: python -m benchmarks.kernel_forms [--zoo FOLDER] [--seconds S]

Every time is one of :func:`dfq_deploy.evaluation.latency.speed_of`: float and INT8 in turn, on one thread. The ranges
are made up, since no kernel depends on them. The ratios are float time / INT8 time: above 1 INT8 is faster.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from dfq_deploy.exporters.qdq import quantized_model
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.zoo import DEFAULT_ZOO, models
from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.evaluation.latency import Speed, speed_of
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.query import name_of
from dfq_deploy.quantization.encode import prepare
from dfq_deploy.quantization.placement.place import encodings_of_weights, unify
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target

Arrays = Mapping[str, NDArray[Any]]

RNG = np.random.default_rng(0)

WIDTH = 512

READ = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
WEIGHT = "e = DequantizeLinear <axis = 1> (w, v, o)"
INT32 = "g = DequantizeLinear <axis = 0> (b32, bs, bo)"
END = "p = QuantizeLinear(r, t, z) y = DequantizeLinear(p, t, z)"

DENSE = {
    "MatMul, Add of a float bias": f"{READ} {WEIGHT} m = MatMul(d, e) y = Add(m, b)",
    "the same, Q and DQ behind": f"{READ} {WEIGHT} m = MatMul(d, e) r = Add(m, b) {END}",
    "bias of shape [1, N]": f"{READ} {WEIGHT} m = MatMul(d, e) y = Add(m, b2)",
    "bias of shape [1, 1, N]": f"{READ} {WEIGHT} m = MatMul(d, e) y = Add(m, b3)",
    "bias in int32 with its DQ": f"{READ} {WEIGHT} {INT32} m = MatMul(d, e) y = Add(m, g)",
    "Gemm, float bias": f"{READ} {WEIGHT} y = Gemm(d, e, b)",
    "Gemm, bias in int32 with its DQ": f"{READ} {WEIGHT} {INT32} y = Gemm(d, e, g)",
    "weight alone: MatMul, Add": f"{WEIGHT} m = MatMul(x, e) y = Add(m, b)",
}

ACTIVATIONS = {
    "Relu": "Relu({0})",
    "LeakyRelu": "LeakyRelu <alpha = 0.25> ({0})",
    "PRelu, one slope": "PRelu({0}, one)",
    "PRelu, a slope for each channel": "PRelu({0}, each)",
    "HardSwish": "HardSwish({0})",
    "Elu": "Elu({0})",
}


class Fed(Runner):
    """A model with the one array that it is fed."""

    def __init__(self, model: onnx.ModelProto | ir.Model, array: NDArray[np.float32]) -> None:
        proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
        super().__init__(proto.SerializeToString(), quiet_threads=True, threads=1)
        self.array, self.batch = array, 1

    def feed(self, _: Samples) -> list[NDArray[Any]]:
        """Run it on that array."""
        found: list[NDArray[Any]] = self.session.run(None, {self.ports[0].name: self.array})
        return found


def normal(*shape: int) -> NDArray[np.float32]:
    """Small weights."""
    return RNG.normal(0, 0.05, shape).astype(np.float32)


def model_of(inputs: str, outputs: str, nodes: str, arrays: Arrays) -> onnx.ModelProto:
    """A model from ONNX text, with those of ``arrays`` that it names."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> graph ({inputs}) => ({outputs}) {{ {nodes} }}'
    )
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in arrays.items() if name in read
    )
    return model


def quantized(model: onnx.ModelProto | Path, *, float_stem: bool = False) -> ir.Model:
    """The model quantized for ``cpu`` with made-up ranges; its first convolution may stay float."""
    prepared = prepare(load(model), find_target("cpu"))
    placement = prepared.placement
    spans = {name: Range(-1 - index / 100, 1 + index / 100) for index, name in enumerate(placement.activations)}
    ranges = unify(spans, placement)
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in placement.activations.items()}
    encodings |= encodings_of_weights(prepared.model, placement, activations=encodings)
    first = next(node for node in prepared.model.graph if node.op_type == "Conv")
    left = {name_of(value) for value in first.inputs[:2]} if float_stem else set()
    kept = {name: encoding for name, encoding in encodings.items() if name not in left}
    made: ir.Model = quantized_model(prepared.model, kept)
    return made


def timed(one: Runner, other: Runner, seconds: float) -> Speed:
    """How fast ``other`` is against ``one``."""
    speed = speed_of(one, other, Samples(np.zeros((1, 1), np.float32)), seconds)
    assert speed is not None
    return speed


def shown(speed: Speed) -> str:
    """Ratio and interval."""
    return f"{speed.ratio:.2f} ({speed.low:.2f} to {speed.high:.2f})"


def dense(seconds: float) -> None:
    """Forms of a dense layer of 512 by 512."""
    weight, bias, scale = normal(WIDTH, WIDTH), normal(WIDTH), np.float32(0.03)
    steps = (np.abs(weight).max(0) / 127).astype(np.float32)
    arrays: Arrays = {
        **{"wf": weight, "w": np.rint(weight / steps).astype(np.int8), "v": steps, "o": np.zeros(WIDTH, np.int8)},
        **{"b": bias, "b2": bias.reshape(1, -1), "b3": bias.reshape(1, 1, -1), "s": np.array(scale)},
        **{"z": np.array(128, np.uint8), "t": np.array(np.float32(0.1)), "bs": scale * steps},
        **{"b32": np.rint(bias / (scale * steps)).astype(np.int32), "bo": np.zeros(WIDTH, np.int32)},
    }
    print("| input | form | kernel | float / INT8 |\n|---|---|---|---|")
    for shape in ((1,), (64,), (1, 64), ("n", 64)):
        sizes = ",".join(map(str, shape))
        ports = f"float[{sizes},{WIDTH}] x", f"float[{sizes},{WIDTH}] y"
        array = normal(*(1 if size == "n" else int(size) for size in shape), WIDTH)
        reference = Fed(model_of(*ports, "m = MatMul(x, wf) y = Add(m, b)", arrays), array)
        for form, nodes in DENSE.items():
            if (len(shape) > 1 and "Gemm" in nodes) or (len(shape) == 1 and "b3)" in nodes):
                continue
            model = model_of(*ports, nodes, arrays)
            kernel = count_kernels(model).kernels[0].kernel
            print(f"| [{sizes}, {WIDTH}] | {form} | {kernel} | {shown(timed(reference, Fed(model, array), seconds))} |")


def stems(seconds: float) -> None:
    """A first convolution and a 1x1 behind it: by the channels of the image, and with the first one in float."""
    print("| first convolution | channels | float / INT8 | first one in float: float / INT8 |\n|---|---|---|---|")
    for size, stride, side, width in ((3, 2, 224, 32), (3, 1, 112, 16), (7, 2, 224, 64)):
        for channels in (1, 3, 4, 8):
            pad, end = size // 2, side // stride
            weights = {"w": normal(width, channels, size, size), "k": normal(width, width, 1, 1)}
            model = model_of(
                f"float[1,{channels},{side},{side}] x",
                f"float[1,{width},{end},{end}] y",
                f"a = Conv <strides = [{stride}, {stride}], pads = [{pad}, {pad}, {pad}, {pad}]> (x, w) "
                "r = Relu(a) y = Conv(r, k)",
                weights,
            )
            array = normal(1, channels, side, side)
            one = Fed(model, array)
            cells = [
                shown(timed(one, Fed(quantized(model, float_stem=stem), array), seconds)) for stem in (False, True)
            ]
            print(
                f"| {size}x{size}, step {stride}, {side} pixels to {width} | {channels} | " + " | ".join(cells) + " |"
            )


def networks(seconds: float, zoo: Path) -> None:
    """Real networks whose first convolution is quantized, or in float, against float and against each other."""
    print(
        "| network | float / INT8 | first one in float: float / INT8 | INT8 / first one in float |\n|---|---|---|---|"
    )
    for model in models(zoo, ["resnet20", "resnet20_kd", "mobilenet_v1", "efficientnet_lite0", "vit_cifar10"]):
        source = load(model.folded)
        shape = [size if isinstance(size, int) else 1 for size in source.graph.inputs[0].shape or ()]
        array = normal(*shape)
        one, *others = (
            Fed(made, array) for made in (source, quantized(model.folded), quantized(model.folded, float_stem=True))
        )
        pairs = ((one, others[0]), (one, others[1]), (others[0], others[1]))
        print(f"| {model.name} | " + " | ".join(shown(timed(*pair, seconds)) for pair in pairs) + " |")


def activations(seconds: float) -> None:
    """Four 3x3 convolutions with an activation behind each."""
    print("| activation | " + " | ".join(f"{width} channels, {side} pixels" for width, side in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for label, text in ACTIVATIONS.items():
        cells = []
        for width, side in SIZES:
            arrays = {f"w{index}": normal(width, width if index else 4, 3, 3) for index in range(4)}
            arrays |= {"one": np.full((1,), 0.25, np.float32), "each": np.linspace(0.1, 0.4, width).astype(np.float32)}
            arrays["each"] = arrays["each"].reshape(-1, 1, 1)
            nodes, last = "", "x"
            for index in range(4):
                nodes += (
                    f"c{index} = Conv <pads = [1, 1, 1, 1]> ({last}, w{index}) r{index} = {text.format(f'c{index}')} "
                )
                last = f"r{index}"
            ports = f"float[1,4,{side},{side}] x", f"float[1,{width},{side},{side}] {last}"
            model, array = model_of(*ports, nodes, arrays), normal(1, 4, side, side)
            cells.append(shown(timed(Fed(model, array), Fed(quantized(model), array), seconds)))
        print(f"| {label} | " + " | ".join(cells) + " |")


AT_RUN_TIME = (
    "a, sa, za = DynamicQuantizeLinear({0}) i = MatMulInteger(a, w, za, o) f = Cast <to = 1> (i) c = Mul(sa, v)"
)

ROWS = "g = Abs(x) l = ReduceMax <axes = [-1], keepdims = 1> (g) d = Div(x, l)"


def dynamic(seconds: float) -> None:
    """Dense layers whose activations are quantized at run time: with one scale, and with one for each row."""
    print("| weight | rows | one scale: float / INT8 | a scale for each row: float / INT8 |\n|---|---|---|---|")
    for depth, width in ((16, 64), (64, 64), (128, 128), (256, 256), (384, 1536), (1536, 384)):
        weight = normal(depth, width)
        steps = (np.abs(weight).max(0) / 127).astype(np.float32)
        integers = np.rint(weight / steps).astype(np.int8)
        arrays: Arrays = {"wf": weight, "w": integers, "v": steps, "o": np.zeros(width, np.int8)}
        ports = f"float[1,n,{depth}] x", f"float[1,n,{width}] y"
        forms = (
            f"{AT_RUN_TIME.format('x')} y = Mul(f, c)",
            f"{ROWS} {AT_RUN_TIME.format('d')} e = Mul(f, c) y = Mul(e, l)",
        )
        for rows in (1, 8, 64):
            array = normal(1, rows, depth)
            reference = Fed(model_of(*ports, "y = MatMul(x, wf)", arrays), array)
            cells = [shown(timed(reference, Fed(model_of(*ports, nodes, arrays), array), seconds)) for nodes in forms]
            print(f"| {depth} by {width} | {rows} | " + " | ".join(cells) + " |")


def recurrent(seconds: float) -> None:
    """An LSTM in float, and ONNX Runtime's DynamicQuantizeLSTM, over one step and over sixteen."""
    print("| states | steps | float / INT8 |\n|---|---|---|")
    for states in (16, 64, 128, 512):
        weights = {"w": normal(1, 4 * states, states), "r": normal(1, 4 * states, states)}
        ports = f"float[t,1,{states}] x", f"float[t,1,1,{states}] y"
        model = model_of(*ports, f"y = LSTM <hidden_size = {states}> (x, w, r)", weights)
        with TemporaryDirectory() as folder:
            quantize_dynamic(model, Path(folder) / "q.onnx", weight_type=QuantType.QInt8, per_channel=True)
            made = onnx.load(Path(folder) / "q.onnx")
        for steps in (1, 16):
            array = normal(steps, 1, states)
            print(f"| {states} | {steps} | {shown(timed(Fed(model, array), Fed(made, array), seconds))} |")


def residuals(seconds: float) -> None:
    """Add and LayerNormalization, fused to SkipLayerNormalization, against Sum and LayerNormalization."""
    print("| width | rows | Add / Sum |\n|---|---|---|")
    for width in (64, 192, 384, 768):
        arrays = {"s": normal(width), "b": normal(width)}
        ports = f"float[1,n,{width}] x", f"float[1,n,{width}] y"
        end = "y = LayerNormalization <axis = -1> (a, s, b)"
        pair = [model_of(*ports, f"t = Neg(x) a = {name}(x, t) {end}", arrays) for name in ("Add", "Sum")]
        for rows in (1, 16, 64, 197):
            array = normal(1, rows, width)
            one, other = (Fed(model, array) for model in pair)
            print(f"| {width} | {rows} | {shown(timed(one, other, seconds))} |")


SIZES = ((16, 32), (32, 56), (64, 28))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each cell, about")
    args = parser.parse_args()
    for table in (dense, stems, activations, dynamic, recurrent, residuals):
        print(f"\n{(table.__doc__ or '').strip()}\n")
        table(args.seconds)
    print(f"\n{(networks.__doc__ or '').strip()}\n")
    networks(args.seconds, args.zoo)


if __name__ == "__main__":
    main()
