"""Speed of three dense layers in integers, and of EfficientNet-Lite0 with and without Pads: two Markdown tables.

usage: python -m benchmarks.dense_stacks [--zoo FOLDER] [--seconds S]

Dense layers: MatMul, Add of a bias and Relu, three times, 512 wide, as the files of Keras and torch have them; float
time by INT8 time, on one thread, float and INT8 in turn, or each in a row, so that its weights stay in the caches.
``written`` is what dfq-deploy writes for ``cpu``, with one scale for each weight where that is faster
(:mod:`dfq_deploy.quantization.placement.single_scales`); ``by channel`` has a scale for each channel, and the signal to
noise of the weights tells what one scale costs. The ranges are made up, since no kernel depends on them.

Pads: the padding of each convolution as a node of its own, as the model's own library exports it, against the file
without; both quantized, in turn.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from dfq_deploy.exporters.qdq import quantized_model
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.kernel_forms import WIDTH, Fed, model_of, normal, quantized, shown, timed
from benchmarks.zoo import DEFAULT_ZOO, models
from dfq_deploy.encodings import Encoding, Range
from dfq_deploy.graph.loading import load
from dfq_deploy.quantization.encode import Prepared, prepare
from dfq_deploy.quantization.placement.place import encodings_of_weights, unify
from dfq_deploy.quantization.placement.single_scales import with_single_scales
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target

LAYERS = 3


def stack(rows: tuple[int | str, ...]) -> onnx.ModelProto:
    """Three layers in float."""
    sizes = ",".join(map(str, (*rows, WIDTH)))
    arrays = {f"w{index}": normal(WIDTH, WIDTH) for index in range(LAYERS)}
    arrays |= {f"b{index}": normal(WIDTH) for index in range(LAYERS)}
    nodes, last = "", "x"
    for index in range(LAYERS):
        nodes += f"m{index} = MatMul({last}, w{index}) a{index} = Add(m{index}, b{index}) r{index} = Relu(a{index}) "
        last = f"r{index}"
    return model_of(f"float[{sizes}] x", f"float[{sizes}] {last}", nodes, arrays)


def in_a_row(fed: Fed, seconds: float) -> float:
    """The smallest time of runs of one model alone, whose weights then stay in the caches."""
    ends, sample, least = time.perf_counter() + seconds, Samples(np.zeros((1, 1), np.float32)), math.inf
    while (started := time.perf_counter()) < ends:
        fed.feed(sample)
        least = min(least, time.perf_counter() - started)
    return least


def decibels_of_weights(prepared: Prepared, encodings: Mapping[str, Encoding]) -> float:
    """Signal to noise of all weights together."""
    noise = signal = 0.0
    for name in prepared.placement.weights:
        weight = np.asarray(prepared.model.graph.initializers[name].const_value.numpy())  # type: ignore[union-attr]
        noise += float(np.square(encodings[name].fake_quantize(weight) - weight).sum())
        signal += float(np.square(weight).sum())
    return 10 * math.log10(signal / noise)


def dense(seconds: float) -> None:
    """Three dense layers of 512 with Relu between them."""
    print(
        "| input | kernels | written: float / INT8 | each in a row | by channel | in a row | dB, written | by channel |"
    )
    print("|---|---|---|---:|---|---:|---:|---:|")
    for rows in (("N",), (1,), (1, 64), ("N", 64)):
        model = stack(rows)
        for count in (1, 4, 64) if rows == ("N",) else (1,):
            array = normal(*(count if size == "N" else int(size) for size in rows), WIDTH)
            pairs = [encoded(model, by_channel=by_channel) for by_channel in (False, True)]
            files: list[ir.Model] = [quantized_model(prepared.model, encodings) for prepared, encodings in pairs]
            kernels = Counter(kernel.kernel for kernel in count_kernels(ir.to_proto(files[0])).kernels)
            one, others = Fed(model, array), [Fed(made, array) for made in files]
            own = in_a_row(one, seconds)
            cells = [
                cell
                for other in others
                for cell in (shown(timed(one, other, seconds)), f"{own / in_a_row(other, seconds):.2f}")
            ]
            said = ", ".join(f"{count} {kernel}" for kernel, count in kernels.items())
            decibels = [f"{decibels_of_weights(*pair):.1f}" for pair in pairs]
            print(
                f"| {list(array.shape)} of {[*rows, WIDTH]} | {said} | {' | '.join([*cells, *decibels])} |", flush=True
            )


def encoded(model: onnx.ModelProto, *, by_channel: bool = False) -> tuple[Prepared, dict[str, Encoding]]:
    """The model for ``cpu``, with made-up ranges, and all weights with a scale for each channel if asked."""
    prepared = prepare(load(model), find_target("cpu"))
    placement = prepared.placement
    if not by_channel:
        placement = with_single_scales(placement, prepared.model, prepared.target)
    spans = {name: Range(-1 - index / 100, 1 + index / 100) for index, name in enumerate(placement.activations)}
    ranges = unify(spans, placement)
    encodings = {name: Encoding.of_range(ranges[name], qtype) for name, qtype in placement.activations.items()}
    return prepared, encodings | encodings_of_weights(prepared.model, placement, activations=encodings)


def with_pads(path: Path) -> onnx.ModelProto:
    """The padding of each convolution as a Pad in front of it."""
    model = onnx.load(path)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        attributes = {entry.name: entry for entry in node.attribute}
        pads = list(attributes["pads"].ints) if node.op_type == "Conv" and "pads" in attributes else []
        if any(pads):
            name = f"{node.output[0]}_pads"
            amounts: NDArray[np.int64] = np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
            model.graph.initializer.append(numpy_helper.from_array(amounts, name))
            nodes.append(helper.make_node("Pad", [node.input[0], name], [f"{name}_out"], name=f"{name}_node"))
            node.input[0] = f"{name}_out"
            node.attribute.remove(attributes["pads"])
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def pads(seconds: float, zoo: Path) -> None:
    """EfficientNet-Lite0 with its padding as Pads, against the file without."""
    (network,) = models(zoo, ["efficientnet_lite0"])
    padded = with_pads(network.folded)
    array = normal(1, 3, 224, 224)
    one, other = quantized(network.folded), quantized(padded)
    counts = [Counter(node.op_type for node in made.graph) for made in (one, other)]
    speed = timed(Fed(one, array), Fed(other, array), seconds)
    print("| Pads in the file | left when quantized | same operators | time without / with |\n|---:|---:|---|---|")
    before = sum(node.op_type == "Pad" for node in padded.graph.node)
    print(f"| {before} | {counts[1]['Pad']} | {'yes' if counts[0] == counts[1] else 'no'} | {shown(speed)} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each cell, about")
    args = parser.parse_args()
    dense(args.seconds)
    print()
    pads(args.seconds, args.zoo)


if __name__ == "__main__":
    main()
