"""How often ``evaluate`` names a planted fault first: one scale of a quantized file 8 times too large.

usage: python -m benchmarks.planted_faults [--models NAME...] [--target NAME] [--refine NAME...] [--most N]

Each network is quantized on 32 procedural pictures, and judged on 8 others. A fault is planted into the scale of each
activation; of each weight; and of each weight whose integers follow, so that it only becomes coarse. Prints how many of
them come first in :func:`dfq_deploy.evaluation.scale_checks.scale_checks`, and false alarms of the sound file.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from benchmarks.digits import digits_models
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import calibrate, synthesize
from dfq_deploy.evaluation.scale_checks import scale_checks
from dfq_deploy.graph.loading import load, load_quantized

MODELS = ["digits", "resnet20", "mobilenet_v1"]

FACTOR = np.float32(8)


def nodes(model: onnx.ModelProto, kind: str) -> list[onnx.NodeProto]:
    """QuantizeLinear nodes of activations, or DequantizeLinear nodes of weights."""
    integers = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8}
    if kind == "activation":
        return [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    return [node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in integers]


def planted(model: onnx.ModelProto, node: onnx.NodeProto, *, follow: bool) -> onnx.ModelProto:
    """A copy whose scale of ``node`` is wrong; ``follow``: the integers of a weight keep its values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    scale = numpy_helper.to_array(stored[node.input[1]])
    stored[node.input[1]].CopyFrom(numpy_helper.from_array(np.asarray(scale * FACTOR, np.float32), node.input[1]))
    if follow:
        integers = np.rint(numpy_helper.to_array(stored[node.input[0]]) / FACTOR).astype(np.int8)
        stored[node.input[0]].CopyFrom(numpy_helper.from_array(integers, node.input[0]))
    return copy


def results(model: ZooModel, target: str, refine: list[str], most: int) -> Iterator[str]:
    """A line for each kind of fault."""
    source, preprocess = load(model.folded), model.preprocess
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        calibrate(
            model.folded, synth="procedural", count=32, target=target, refine=refine, preprocess=preprocess,
            floor="none", output=out,
        )  # fmt: skip
        sound = onnx.load(out / "model.qdq.onnx")
    samples = synthesize(model.folded, synth="procedural", count=8, preprocess=preprocess, seed=7)
    alarms = sum(check.is_fault for check in scale_checks(source, load_quantized(sound), samples))
    yield f"{model.name}: {alarms} false alarms"
    for kind, follow in (("activation", False), ("weight", False), ("weight", True)):
        chosen = nodes(sound, kind)
        chosen = chosen[:: max(1, len(chosen) // most)]
        named = 0
        for node in chosen:
            first = scale_checks(source, load_quantized(planted(sound, node, follow=follow)), samples)[0]
            named += first.is_fault and first.kind == kind and node.input[0].startswith(first.tensor)
        yield f"{model.name}: {kind}{', integers follow' * follow}: {named} of {len(chosen)} named first"


def main() -> None:
    """Print a line for each network and kind of fault."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--refine", nargs="*", default=["equalize", "bias"])
    parser.add_argument("--most", type=int, default=20, help="about so many tensors of each kind")
    args = parser.parse_args()
    for model in (*digits_models(args.models), *models(args.zoo, args.models)):
        for line in results(model, args.target, args.refine, args.most):
            print(line, flush=True)


if __name__ == "__main__":
    main()
