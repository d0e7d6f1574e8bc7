"""Target by model: which file is written, which runtime builds or runs it, does it agree, is it faster.

usage: python -m benchmarks.runtimes [--zoo FOLDER] [--models NAME...] [--targets NAME...] [--images N]

LiteRT has a table of its own (benchmarks.litert). A runtime that is not installed leaves its cells empty. Each model is
calibrated by 16 pictures by rule: what is asked here depends on the kernels, not on the scales. `agrees` compares the
classes that the runtime gives with those of ONNX Runtime's CPU provider on the same file, on test images, which
calibrate nothing. `faster` is float time / INT8 time in that runtime, CPU time on one thread of this machine.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples
from dfq_deploy.checking import check
from dfq_deploy.evaluation.latency import Speed, speed_of_times
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.outcome import closed_model
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.plugins.registry import exporter_of, find_plugin
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.runtime.tensorrt.rtx import rtx_version
from dfq_deploy.runtime.wasm import times_in_wasm, web_version
from dfq_deploy.targets.catalog import TARGETS

MODELS = ["resnet20_kd", "mobilenet_v1", "vit_cifar10"]

SAMPLES = 16

SECONDS = 2.0

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Cells(NamedTuple):
    """What one runtime does with a file; empty cells are unknown."""

    runtime: str
    agrees: str = ""
    faster: str = ""


def in_onnx_runtime(path: Path) -> Run:
    """The file in ONNX Runtime's CPU provider, one picture a run."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda picture: np.asarray(session.run(None, {name: picture})[0])


def in_openvino(path: Path) -> Run:
    """The file in OpenVINO's CPU plug-in, one picture a run."""
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda picture: np.asarray(compiled(picture)[0])


def agreement(first: Run, second: Run, pictures: NDArray[np.float32]) -> str:
    """Percent of pictures with the same class."""
    same = [first(picture[None]).argmax() == second(picture[None]).argmax() for picture in pictures]
    return f"{100 * float(np.mean(same)):.1f} %"


def speed(float_run: Run, int8_run: Run, picture: NDArray[np.float32]) -> str:
    """Float time / INT8 time, the two in turn, by the CPU time of one thread."""
    times: list[list[float]] = []
    for run in (float_run, int8_run):
        run(picture)
    started = time.perf_counter()
    while len(times) < 12 or time.perf_counter() - started < SECONDS:
        pair = []
        for run in (float_run, int8_run):
            before = time.process_time()
            run(picture)
            pair.append(time.process_time() - before)
        times.append(pair)
    return shown(speed_of_times(1, times))


def shown(found: Speed) -> str:
    """The ratio with its interval."""
    return f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})"


def cells(target: str, model: ZooModel, path: Path, pictures: NDArray[np.float32]) -> list[Cells]:
    """The runtimes of a target: first its own, where it is here, then ONNX Runtime's CPU provider."""
    reference = in_onnx_runtime(path)
    if target == "cpu":
        faster = speed(in_onnx_runtime(model.folded), reference, pictures[:1])
        return [Cells(f"ONNX Runtime {ort.__version__}", "the reference", faster)]
    found: list[Cells] = []
    if target == "openvino" and find_spec("openvino"):
        import openvino

        theirs, theirs_float = in_openvino(path), in_openvino(model.folded)
        version = openvino.__version__.partition("-")[0]
        found.append(
            Cells(
                f"OpenVINO {version}",
                agreement(reference, theirs, pictures),
                speed(theirs_float, theirs, pictures[:1]),
            )
        )
    if target == "tensorrt" and rtx_version():
        found.append(
            Cells(f"TensorRT-RTX {rtx_version()} builds it: {str(count_kernels(path, target)).partition(',')[0]}")
        )
    if target == "web" and web_version():
        name = ort.InferenceSession(path).get_inputs()[0].name
        times = times_in_wasm((model.folded, path), {name: pictures[:1]}, seconds=SECONDS)
        found.append(Cells(f"onnxruntime-web {web_version()} in Node", "", shown(speed_of_times(1, times))))
    phone = path.with_name("model.ort")
    if phone.exists():
        agrees = agreement(reference, in_onnx_runtime(phone), pictures)
        found.append(Cells(f"ONNX Runtime {ort.__version__}, `.ort`", agrees))
    return found or [Cells(f"by rule; ONNX Runtime {ort.__version__} runs it on a CPU")]


def find_spec(name: str) -> bool:
    """True where the package is installed."""
    import importlib.util

    return importlib.util.find_spec(name) is not None


def row(target: str, model: ZooModel, used: Samples, pictures: NDArray[np.float32]) -> list[str]:
    """The lines of one file."""
    chosen = TARGETS[target]
    quantized = encode(
        prepare(load(model.folded), chosen), find_plugin("calibrators", "minmax")(), used, model.preprocess
    )
    closed, encodings = closed_model(quantized.prepared.model, quantized.encodings, chosen, 1)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.qdq.onnx"
        exporter: Any = exporter_of(chosen.exporter)
        files = exporter.export(closed, encodings, path).files
        report = check(path, target)
        verdict = "clean" if report.clean else f"{len(report.errors)} violations"
        written = ", ".join(f"`{file.name}`" for file in files if file.suffix in (".onnx", ".ort"))
        return [
            f"| {target} | {model.name} | {written} | {verdict} | {entry.runtime} | {entry.agrees} | {entry.faster} |"
            for entry in cells(target, model, path, pictures)
        ]


def main() -> None:
    """Write, check and run each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--targets", nargs="*", default=[name for name in TARGETS if name != "litert"])
    parser.add_argument("--images", type=int, default=200)
    args = parser.parse_args()
    print("| target | model | written | rules | built or run by | agrees | faster |")
    print("|---|---|---|---|---|---|---|")
    for model in models(args.zoo, args.models):
        used = synthesize(model.folded, synth="procedural", count=SAMPLES, preprocess=model.preprocess)
        pictures = model.images(model.evaluation[0]).images[: args.images]
        for target in args.targets:
            for line in row(target, model, used, pictures):
                print(line, flush=True)


if __name__ == "__main__":
    main()
