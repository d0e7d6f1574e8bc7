"""How often ``evaluate`` names a planted fault first.

usage: python -m benchmarks.planted_faults [--models NAME...] [--bits WA] [--target NAME] [--refine NAME...] [--most N]
                                           [--sound | --biases]

Each network is quantized on 32 procedural pictures, and judged on 8 others. Faults are planted, one at a time, into the
tensors of :data:`FAULTS`. Prints how many of them come first in
:func:`dfq_deploy.evaluation.file_checks.file_checks`, and false alarms of the sound file. --sound plants nothing, and
counts the false alarms in files of all settings of :data:`SOUND`. --biases prints what bias correction and equalization
leave unexplained of the biases of these files, from which the bounds of :mod:`dfq_deploy.evaluation.biases` come.
--settings takes some of the settings alone, by their place.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from benchmarks.digits import digits_models
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples, calibrate, synthesize
from dfq_deploy.evaluation.bias_layers import bias_layers
from dfq_deploy.evaluation.biases import OUTLIER, PROPORTIONAL
from dfq_deploy.evaluation.file_checks import file_checks
from dfq_deploy.evaluation.float_weights import FloatWeights
from dfq_deploy.evaluation.qdq_pairs import weight_pairs
from dfq_deploy.evaluation.weight_checks import weight_checks
from dfq_deploy.graph.loading import load, load_quantized

MODELS = ["digits", "resnet20", "mobilenet_v1"]


class Made(NamedTuple):
    """How a file is made."""

    bits: str
    target: str
    refine: tuple[str, ...]


SOUND = (
    *(
        Made("w8a8", target, refine)
        for target in ("cpu", "tensorrt", "qnn", "openvino")
        for refine in (("bias",), ("equalize", "bias"))
    ),
    Made("w8a8", "cpu", ("channels", "bias")),
    Made("w4a8", "cpu", ("closed-form",)),
    Made("w4a8", "cpu", ("equalize", "bias")),
    Made("w4a4", "cpu", ("bias",)),
)
"""Settings of which --sound makes files, from the file with BatchNormalization and from the folded one."""

FACTOR = np.float32(8)

RUINED = 0.0
"""Signal to noise in dB that the outputs are taken to have, so that another network's weights are looked for too."""

Array = NDArray[Any]


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    """QuantizeLinear nodes of activations, DequantizeLinear nodes of weights or biases, or Relu and Clip nodes."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    wanted = {"weight": TensorProto.INT8, "bias": TensorProto.INT32}.get(kind)
    if kind == "activation":
        return [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    if kind == "node":
        return [node for node in model.graph.node if node.op_type in ("Relu", "Clip")]
    return [
        node for node in model.graph.node if node.op_type == "DequantizeLinear" and types.get(node.input[0]) == wanted
    ]


def changed(model: onnx.ModelProto, name: str, change: Callable[[Array], Array]) -> onnx.ModelProto:
    """A copy in which one constant has other values, of the same type."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
    old = numpy_helper.to_array(stored)
    stored.CopyFrom(numpy_helper.from_array(np.asarray(change(old)).astype(old.dtype), name))
    return copy


def coarse(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """The scale of a weight is too large, and its integers follow."""
    wide = changed(model, node.input[1], lambda scale: scale * FACTOR)
    return changed(wide, node.input[0], lambda integers: np.rint(integers / FACTOR))


def moved(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """The zero point lies half of the integers away: those of a Relu that begin at zero go as far below it as above."""

    def half(zero: Array) -> Array:
        low = 0 if zero.dtype.kind == "u" else -128
        return np.asarray(zero, np.int32) + (128 if int(zero) < low + 128 else -128)

    return changed(model, node.input[2], half)


def swapped(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """The first two output channels of a weight change places, as the layer of a Gemm or Conv has them."""
    return changed(model, node.input[0], lambda integers: integers[[1, 0, *range(2, len(integers))]])


def symmetric(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """A copy in which the range of a QuantizeLinear goes as far below zero as above it."""
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[2])
    zero = numpy_helper.to_array(stored)
    middle = 0 if zero.dtype.kind == "i" else 128
    if zero == middle:
        return model
    moved_zero = changed(model, node.input[2], lambda value: np.full_like(value, middle))
    return changed(moved_zero, node.input[1], lambda value: value * 2)


def dropped(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """A node is missing: what reads it reads its input, whose range goes as far below zero as above."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.node.remove(next(entry for entry in copy.graph.node if entry.output == node.output))
    for entry in copy.graph.node:
        for place, name in enumerate(entry.input):
            if name == node.output[0]:
                entry.input[place] = node.input[0]
                if entry.op_type == "QuantizeLinear":
                    return symmetric(copy, entry)
    return copy


FAULTS: dict[str, tuple[str, Callable[[onnx.ModelProto, onnx.NodeProto], onnx.ModelProto]]] = {
    "scale of an activation 8 times": ("activation", lambda m, n: changed(m, n.input[1], lambda s: s * FACTOR)),
    "scale of an activation by 8": ("activation", lambda m, n: changed(m, n.input[1], lambda s: s / FACTOR)),
    "zero point of an activation": ("activation", moved),
    "scale of a weight 8 times": ("weight", lambda m, n: changed(m, n.input[1], lambda s: s * FACTOR)),
    "the same, integers follow": ("weight", coarse),
    "channels of a weight swapped": ("weight", swapped),
    "bias doubled": ("bias", lambda m, n: changed(m, n.input[0], lambda b: b * 2)),
    "bias zero": ("bias", lambda m, n: changed(m, n.input[0], lambda b: b * 0)),
    "scale of a bias 8 times": ("bias", lambda m, n: changed(m, n.input[1], lambda s: s * FACTOR)),
    "Relu or Clip dropped": ("node", dropped),
}
"""Name -> kind of node that it is planted into, and how."""


def named_first(source: Any, model: onnx.ModelProto, samples: Samples, node: onnx.NodeProto, kind: str) -> str:
    """The first sentence on a faulty file where it names the planted fault; else empty."""
    checks = file_checks(source, load_quantized(model), samples, RUINED)
    if checks.faults:
        first = checks.faults[0]
        if kind == "activation" and first.kind in ("scale", "zero-point"):
            return str(first) if node.input[0].startswith(first.tensor) else ""
        if kind not in ("bias", "node"):
            return ""
        return str(first) if first.kind == kind and (first.tensor == node.input[0] or node.name in first.node) else ""
    worst = checks.scales[0]
    return str(worst) if worst.is_fault and worst.kind == kind and node.input[0].startswith(worst.tensor) else ""


def quantized(path: Path, model: ZooModel, made: Made) -> onnx.ModelProto:
    """The file as ``calibrate`` makes it on 32 procedural pictures."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        calibrate(
            path, synth="procedural", count=32, bits=made.bits, target=made.target, refine=made.refine,
            preprocess=model.preprocess, floor="none", output=out,
        )  # fmt: skip
        return onnx.load(out / "model.qdq.onnx")


def results(model: ZooModel, made: Made, most: int) -> Iterator[str]:
    """A line for each kind of fault."""
    source, sound = load(model.folded), quantized(model.folded, model, made)
    samples = judged_on(model)
    alarms = file_checks(source, load_quantized(sound), samples, RUINED).sentences
    yield f"{model.name}: {len(alarms)} false alarms"
    for fault, (kind, plant) in FAULTS.items():
        chosen = nodes(sound, kind)
        chosen = chosen[:: max(1, len(chosen) // most)]
        said = {node.output[0]: named_first(source, plant(sound, node), samples, node, kind) for node in chosen}
        yield f"{model.name}: {fault}: {sum(map(bool, said.values()))} of {len(chosen)} named first"
        missed = [name for name, sentence in said.items() if not sentence]
        if missed:
            yield f"  not: {', '.join(missed)}"


def sound_files(model: ZooModel, settings: Iterable[Made]) -> Iterator[tuple[Path, Made, onnx.ModelProto]]:
    """The float file, the setting and the file of each, from the file with BatchNormalization and the folded one."""
    for path in dict.fromkeys((model.bn, model.folded)):
        for made in settings:
            yield path, made, quantized(path, model, made)


def alarms(model: ZooModel, settings: Iterable[Made]) -> Iterator[str]:
    """How many files of a network that are sound have something named, or not checked, and what."""
    files, alarmed, samples = 0, [], judged_on(model)
    for path, made, file in sound_files(model, settings):
        files += 1
        checks = file_checks(load(path), load_quantized(file), samples, RUINED)
        found = (*checks.sentences, *checks.unchecked)
        alarmed += [f"  {path.stem}, {made}: {found[0]}"] if found else []
    yield f"{model.name}: {len(alarmed)} of {files} sound files have something named"
    yield from alarmed


def bias_figures(model: ZooModel, settings: Iterable[Made]) -> Iterator[str]:
    """What is unexplained of the biases of sound files, in standard deviations of the output, for each setting."""
    samples = judged_on(model)
    for path, made, file in sound_files(model, settings):
        floats, judged = FloatWeights(load(path)), load_quantized(file)
        pairs = weight_pairs(judged)
        _, equalized = weight_checks(floats, judged, pairs)
        layers = list(bias_layers(floats, pairs, equalized.tensors(floats.lowered), samples))
        if not layers:
            continue
        left = [layer.unexplained() for layer in layers]
        means = [layer.rms(rest) for layer, rest in zip(layers, left, strict=True)]
        parts = [mean / layer.rms(layer.exact / layer.spread) for layer, mean in zip(layers, means, strict=True)]
        worst = [
            (rest.max(), rest.max() / max(np.median(rest[layer.alive]), 1e-9))
            for layer, rest in zip(layers, left, strict=True)
        ]
        fits = [max(layer.multiples(), key=lambda fit: fit.cosine) for layer in layers]
        ends = np.quantile([fit.times for fit in fits if fit.cosine >= PROPORTIONAL] or [1.0], [0, 0.5, 1])
        apart = max((times for most, times in worst if most >= OUTLIER), default=0.0)
        setting = f"{path.stem}, {made.bits} {made.target} {'+'.join(made.refine)}"
        outlier = max(most for most, _ in worst)
        yield (
            f"{setting}: {len(layers)} biases, unexplained at most {max(means):.3f} in the mean "
            f"({max(parts):.3g} of float's bias; median {np.median(means):.3f}), {outlier:.2f} in one channel, "
            f"{apart:.3g} times the middle one where that is {OUTLIER:g} or more; multiples of float's "
            f"{ends[0]:.3f} to {ends[2]:.3f}, median {ends[1]:.3f}"
        )


def judged_on(model: ZooModel) -> Samples:
    """Eight procedural pictures that calibrate nothing."""
    return synthesize(model.folded, synth="procedural", count=8, preprocess=model.preprocess, seed=7)


def main() -> None:
    """Print a line for each network and kind of fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--bits", default="w8a8")
    parser.add_argument("--refine", nargs="*", default=["equalize", "bias"])
    parser.add_argument("--most", type=int, default=20, help="about so many tensors of each kind")
    parser.add_argument("--sound", action="store_true", help="count the false alarms alone, over several settings")
    parser.add_argument("--biases", action="store_true", help="print what is unexplained of the biases of sound files")
    parser.add_argument("--settings", type=int, nargs="+", default=range(len(SOUND)), help="of --sound and --biases")
    args = parser.parse_args()
    made, settings = Made(args.bits, args.target, tuple(args.refine)), [SOUND[place] for place in args.settings]
    for model in (*digits_models(args.models), *models(args.zoo, args.models)):
        if args.biases:
            lines = bias_figures(model, settings)
        else:
            lines = alarms(model, settings) if args.sound else results(model, made, args.most)
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
