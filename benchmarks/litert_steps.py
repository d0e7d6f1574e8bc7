"""Each integer step of a .tflite file alone: LiteRT against ONNX Runtime on the same integers, as Markdown.

usage: python -m benchmarks.litert_steps --folder FOLDER [--models NAME...] [--held N]

benchmarks.litert compares whole networks, in which a difference of one step of the quantization at the beginning may
grow to many at the end. Here a QDQ file is cut behind every QuantizeLinear: from the tensors that are quantized before
it to this one. Each piece is written as a .tflite file of its own and fed with what ONNX Runtime, without graph
optimizations, computes there; so both start from the same integers. Counted are the integers that differ, and by how
many steps at most. The last column has the pieces with more than one step of difference.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from dfq_deploy.exporters.litert.conversion import converted
from dfq_deploy.exporters.litert.serialization import serialized
from numpy.typing import NDArray

from benchmarks import inputs
from benchmarks.litert import FILES, PublicFile, pair_of
from benchmarks.models import Case
from dfq_deploy import load
from dfq_deploy.graph.inputs import make_feeds
from dfq_deploy.runtime.litert.interpreter import LiteRtModel

Values = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Step:
    """One piece.

    Args:
        name: the tensor that it quantizes.
        operators: between the quantized tensors.
        total, differ: integers, and how many of them differ.
        most: steps between the two at most.
    """

    name: str
    operators: str
    total: int
    differ: int
    most: int


class Pieces:
    """A QDQ file, cut behind every QuantizeLinear of an activation.

    Args:
        model: with a batch of 1 and static shapes.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.shape_inference.infer_shapes(model)
        self.producers = {output: node for node in self.model.graph.node for output in node.output}
        self.constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in self.model.graph.initializer}
        self.extractor = onnx.utils.Extractor(self.model)
        self.quantizers = [
            node
            for node in self.model.graph.node
            if node.op_type == "QuantizeLinear" and node.input[0] not in self.constants
        ]

    @property
    def tensors(self) -> list[str]:
        """The float tensors that are quantized."""
        return list(dict.fromkeys(node.input[0] for node in self.quantizers))

    def cut(self, quantizer: onnx.NodeProto) -> tuple[onnx.ModelProto, list[str], str] | None:
        """The piece that ends with ``quantizer``, its inputs, and its operators; None for an input of the network."""
        start: list[str] = []
        found: list[str] = []
        waiting, seen = [quantizer.input[0]], {quantizer.input[0]}
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is None:
                continue
            if node.op_type == "QuantizeLinear":
                start.append(node.input[0])
                continue
            if node.op_type != "DequantizeLinear":
                found.append(node.op_type)
            fresh = [name for name in node.input if name and name not in seen and name not in self.constants]
            seen.update(fresh)
            waiting += fresh
        ends = [node.output[0] for node in self.model.graph.node if quantizer.output[0] in node.input]
        if not start or not found or not ends:
            return None
        names = list(dict.fromkeys(start))
        return self.extractor.extract_model(names, ends[:1]), names, " ".join(reversed(found))


def values_of(pieces: Pieces, source: Path, images: NDArray[np.float32]) -> Values:
    """What ONNX Runtime computes at each tensor that is quantized."""
    model = onnx.load(source)
    known = {entry.name for entry in model.graph.output} | {entry.name for entry in model.graph.input}
    added = [name for name in pieces.tensors if name not in known]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in added)
    session = plain(model)
    feeds = {session.get_inputs()[0].name: images}
    computed = dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds), strict=True))
    return {**feeds, **computed}


def plain(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session without graph optimizations."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def steps(source: Path, images: NDArray[np.float32]) -> Iterator[Step]:
    """Each piece of a file, run in both."""
    pieces = Pieces(onnx.load(source))
    values = values_of(pieces, source, images)
    for quantizer in pieces.quantizers:
        cut = pieces.cut(quantizer)
        if cut is None:
            continue
        piece, names, operators = cut
        feeds = {name: values[name] for name in names}
        (expected,) = plain(piece).run(None, feeds)
        model = LiteRtModel(serialized(converted(ir.from_proto(piece)), "benchmark"))
        found = model.run(feeds)[piece.graph.output[0].name]
        scale = float(np.ravel(pieces.constants[quantizer.input[1]])[0])
        distance = np.abs(np.rint((found - expected) / scale)).astype(int)
        yield Step(quantizer.input[0], operators, distance.size, int((distance > 0).sum()), int(distance.max()))


def row(file: PublicFile, args: argparse.Namespace) -> str:
    """One line of the table."""
    path, shapes = args.folder / f"{file.name}.onnx", file.shapes or None
    with tempfile.TemporaryDirectory() as folder:
        pair = pair_of(path, file.preprocess, Path(folder), args.samples, shapes)
        case = Case(file.name, file.family, "", "", file.inputs, file.preprocess, shapes=file.shapes)
        held = inputs.make(file.inputs, load(path, input_shapes=shapes), case, args.held)
        found: list[Step] = []
        for index in range(len(held)):
            (feed,) = make_feeds(pair.runner.ports, held.images[index : index + 1], {}).values()
            found += steps(Path(folder) / f"{file.name}.qdq.onnx", feed)
    share = 100 * sum(step.differ for step in found) / sum(step.total for step in found)
    most = max(step.most for step in found)
    more = dict.fromkeys(f"{step.operators} ({step.most})" for step in found if step.most > 1)
    cells = (file.name, str(len(found) // len(held)), f"{share:.3f}", str(most), ", ".join(more) or "none")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--folder", type=Path, required=True, help="of public files, NAME.onnx")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--samples", type=int, default=16, help="how many are synthesized")
    parser.add_argument("--held", type=int, default=1, help="inputs")
    args = parser.parse_args()
    ort.set_default_logger_severity(3)
    print("| file | steps | integers that differ, % | by at most | by more than one |")
    print("|---|---:|---:|---:|---|")
    for file in FILES:
        if (args.folder / f"{file.name}.onnx").is_file() and (not args.models or file.name in args.models):
            print(row(file, args), flush=True)


if __name__ == "__main__":
    main()
