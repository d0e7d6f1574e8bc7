"""Target by model: which file is written, which runtime builds or runs it, does it agree, is it faster.

usage: python -m benchmarks.runtimes [--zoo FOLDER] [--models NAME...] [--targets NAME...] [--images N]

A runtime that is not installed leaves its cells empty; onnxruntime-web is looked for from the working folder. Each
model is calibrated by 16 pictures by rule: what is asked here depends on the kernels, not on the scales. `agrees`
compares the classes that the runtime gives with those of ONNX Runtime's CPU provider on the same file, on test images,
which calibrate nothing (the simulator of Qualcomm's NPU and WebAssembly take the first 24 of them). `faster` is float
time / INT8 time in that runtime, CPU time on one thread of this machine.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from dfq_deploy.exporters.litert.conversion import converted
from dfq_deploy.exporters.litert.serialization import serialized
from numpy.typing import NDArray

from benchmarks.runtime_runs import Run, find_spec, in_litert, in_onnx_runtime, in_openvino, in_qnn, in_wasm
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples
from dfq_deploy.checking import check
from dfq_deploy.evaluation.latency import Speed, speed_of_times
from dfq_deploy.graph.loading import load
from dfq_deploy.graph.passes.static_shapes import fix_batch
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

FEW = 24
"""Pictures for what takes long for one: a simulator, and WebAssembly."""


class Cells(NamedTuple):
    """What one runtime does with a file; empty cells are unknown."""

    runtime: str
    agrees: str = ""
    faster: str = ""


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


@dataclass(frozen=True)
class File:
    """A quantized file, and what it is compared with.

    Args:
        model: the zoo model.
        target: for which it was written.
        path: the QDQ file; what else was written is beside it.
        pictures: test images.
    """

    model: ZooModel
    target: str
    path: Path
    pictures: NDArray[np.float32]

    def compared(self, label: str, run: Run, float_run: Run | None = None, *, few: bool = False) -> Cells:
        """The cells of a runtime that gives scores."""
        pictures = self.pictures[: FEW if few else None]
        faster = "" if float_run is None else speed(float_run, run, pictures[:1])
        return Cells(label, agreement(in_onnx_runtime(self.path), run, pictures), faster)


def cpu_cells(file: File) -> Cells:
    """ONNX Runtime's CPU provider."""
    faster = speed(in_onnx_runtime(file.model.folded), in_onnx_runtime(file.path), file.pictures[:1])
    return Cells(f"ONNX Runtime {ort.__version__}", "the reference", faster)


def openvino_cells(file: File) -> Cells:
    """OpenVINO's CPU plug-in."""
    return file.compared(f"OpenVINO {version('openvino')}", in_openvino(file.path), in_openvino(file.model.folded))


def tensorrt_cells(file: File) -> Cells:
    """NVIDIA's compiler, which builds and does not run."""
    built = str(count_kernels(file.path, file.target)).partition(",")[0]
    return Cells(f"TensorRT-RTX {rtx_version()} builds it: {built}")


def web_cells(file: File) -> Cells:
    """WebAssembly in Node."""
    name = ort.InferenceSession(file.path).get_inputs()[0].name
    times = times_in_wasm((file.model.folded, file.path), {name: file.pictures[:1]}, seconds=SECONDS)
    scores = iter(in_wasm(file.path, file.pictures[:FEW]))
    found = file.compared(f"onnxruntime-web {web_version()} in Node", lambda _: next(scores), few=True)
    return found._replace(faster=shown(speed_of_times(1, times)))


def qnn_cells(file: File) -> Cells:
    """The simulator of Qualcomm's NPU."""
    label = f"simulator of the HTP, onnxruntime-qnn {version('onnxruntime-qnn')}"
    return file.compared(label, in_qnn(file.path), few=True)


def litert_cells(file: File) -> Cells:
    """LiteRT with XNNPACK."""
    floats = in_litert(serialized(converted(fixed(file.model)), "benchmark"))
    return file.compared(f"LiteRT {version('ai-edge-litert')}", in_litert(file.path.with_name("model.tflite")), floats)


def ort_cells(file: File) -> Cells:
    """The ``.ort`` file in ONNX Runtime's CPU provider."""
    return file.compared(f"ONNX Runtime {ort.__version__}, `.ort`", in_onnx_runtime(file.path.with_name("model.ort")))


RUNTIMES: dict[str, tuple[Callable[[], bool], Callable[[File], Cells]]] = {
    "cpu": (lambda: True, cpu_cells),
    "web": (lambda: bool(web_version()), web_cells),
    "openvino": (lambda: find_spec("openvino"), openvino_cells),
    "tensorrt": (lambda: bool(rtx_version()), tensorrt_cells),
    "litert": (lambda: find_spec("ai_edge_litert"), litert_cells),
    "qnn": (lambda: find_spec("onnxruntime_qnn"), qnn_cells),
    **dict.fromkeys(("xnnpack", "nnapi", "nnapi-per-tensor"), (lambda: True, ort_cells)),
}
"""Target -> whether its runtime is here, and what it does with a file."""


def cells(file: File) -> Cells:
    """What the runtime of the target does, where it is here."""
    is_here, run = RUNTIMES.get(file.target, (lambda: False, cpu_cells))
    return run(file) if is_here() else Cells(f"by rule; ONNX Runtime {ort.__version__} runs it on a CPU")


def fixed(model: ZooModel) -> ir.Model:
    """The float model with a batch of 1."""
    source = load(model.folded)
    fix_batch(source, 1)
    return source


def row(target: str, model: ZooModel, used: Samples, pictures: NDArray[np.float32]) -> str:
    """The line of one file."""
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
        written = ", ".join(f"`{file.name}`" for file in files if file.suffix in (".onnx", ".ort", ".tflite"))
        entry = cells(File(model, target, path, pictures))
        return f"| {target} | {model.name} | {written} | {verdict} | {' | '.join(entry)} |"


def main() -> None:
    """Write, check and run each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--images", type=int, default=200)
    args = parser.parse_args()
    print("| target | model | written | rules | built or run by | agrees | faster |")
    print("|---|---|---|---|---|---|---|")
    for model in models(args.zoo, args.models):
        used = synthesize(model.folded, synth="procedural", count=SAMPLES, preprocess=model.preprocess)
        pictures = model.images(model.evaluation[0]).images[: args.images]
        for target in args.targets:
            print(row(target, model, used, pictures), flush=True)


if __name__ == "__main__":
    main()
