"""Other tools on our samples: the top-1 that they reach, beside what they do without data, as a Markdown table.

usage: python -m benchmarks.tools [--zoo FOLDER] [--models NAME...] [--samples FOLDER] [--modelopt PYTHON]
       [--winml PYTHON] [--only TOOL...] [--images N] [--results FILE]

ONNX Runtime's ``quantize_static`` (QDQ, U8S8, per channel, min-max) reads ``dfq_deploy.OnnxRuntimeReader``. It has no
default without data: the row "uniform noise" is one batch of 32 of uniform(0, 1), which is what other tools take.
NVIDIA's ModelOpt is run by the Python that --modelopt names (``nvidia-modelopt[onnx]`` pins an older ONNX Runtime, so
it lives in an environment of its own), by its command line with all else as it comes: without data it draws such noise
itself; our samples reach it as the ``.npy`` of ``--calibration_data_path``. Microsoft's winml-cli is run by the Python
that --winml names, by its function ``quantize_onnx``: by default it draws 10 uniform samples; our samples reach it as
``calibration_data``, which its command line does not have. The samples are those of FOLDER
(``MODEL.npz``), or are synthesized by this package's defaults and left there. No image that is measured on is used for
anything else.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.peers import quantize_with_onnxruntime
from benchmarks.scoring import keep, kept
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import OnnxRuntimeReader, Samples, calibrate, synthesize
from dfq_deploy.evaluation.compare import compare

MODELS = ["resnet20_kd", "mobilenet_v1"]

NOISE = 32
"""Samples of uniform noise."""


WINML = """
import sys
import numpy as np
from winml.modelkit.quant import WinMLQuantizationConfig, quantize_onnx


class Reader:
    def __init__(self, name, images):
        self.name, self.images = name, images
        self.rewind()

    def get_next(self):
        image = next(self.rows, None)
        return None if image is None else {self.name: image[None]}

    def rewind(self):
        self.rows = iter(self.images)


source, output, name, *samples = sys.argv[1:]
reader = Reader(name, np.load(samples[0])) if samples else None
result = quantize_onnx(source, output, WinMLQuantizationConfig(calibration_data=reader))
sys.exit(None if result.success else str(result.errors))
"""
"""Run with the source, the output, the name of the input and, for our samples, an array (N, C, H, W)."""


@dataclass(frozen=True)
class Result:
    """One row; ``float_top1``, ``top1`` and ``agreement`` in percent."""

    model: str
    dataset: str
    images: int
    tool: str
    calibration: str
    float_top1: float
    top1: float
    agreement: float


def samples_of(model: ZooModel, folder: Path) -> Samples:
    """The samples that are kept for a model, or new ones, kept from now on."""
    path = folder / f"{model.name}.npz"
    if not path.exists():
        synthesize(model.bn, preprocess=model.preprocess).save(path)
    return Samples.load(path)


def with_modelopt(python: Path, source: Path, samples: Samples | None, path: Path) -> None:
    """Run ModelOpt's command line, with our samples or with nothing."""
    command = [python, "-m", "modelopt.onnx.quantization", "--onnx_path", source, "--output_path", path]
    command += ["--quantize_mode", "int8", "--calibration_eps", "cpu", "--high_precision_dtype", "fp32"]
    if samples is not None:
        array = path.with_suffix(".npy")
        samples.save(array)
        command += ["--calibration_data_path", array]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if run.returncode != 0 or not path.is_file():
        raise RuntimeError(f"ModelOpt failed on {source}:\n{run.stderr[-2000:]}")


def with_winml(python: Path, source: Path, samples: Samples | None, path: Path) -> None:
    """Run winml-cli's function, with our samples or with nothing."""
    command = [python, "-c", WINML, source, path, onnx.load(source, load_external_data=False).graph.input[0].name]
    if samples is not None:
        array = path.with_suffix(".npy")
        samples.save(array)
        command += [array]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if run.returncode != 0 or not path.is_file():
        raise RuntimeError(f"winml-cli failed on {source}:\n{run.stderr[-2000:]}")


def written(
    model: ZooModel, samples: Samples, chosen: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, str, Path]]:
    """Each tool, what it calibrated on, and its file."""
    noise = np.random.default_rng(0).uniform(0, 1, (NOISE, *model.shape)).astype(np.float32)
    if wants(chosen, "quantize_static"):
        for name, given in (("uniform noise", Samples(noise)), ("our samples", samples)):
            path = folder / f"{model.name}-{name.replace(' ', '-')}.onnx"
            quantize_with_onnxruntime(model.folded, OnnxRuntimeReader(given, model.folded), path)
            yield "quantize_static", name, path
    for tool, python, run in (("ModelOpt", chosen.modelopt, with_modelopt), ("winml-cli", chosen.winml, with_winml)):
        if python is None or not wants(chosen, tool):
            continue
        for name, used in (("none: its noise", None), ("our samples", samples)):
            path = folder / f"{model.name}-{tool}-{'noise' if used is None else 'ours'}.onnx"
            run(python, model.folded, used, path)
            yield tool, name, path
    if wants(chosen, "dfq-deploy"):
        calibrate(model.folded, data=samples, preprocess=model.preprocess, output=folder / model.name)
        yield "dfq-deploy", "our samples", folder / model.name / "model.qdq.onnx"


def wants(chosen: argparse.Namespace, tool: str) -> bool:
    """True where a tool is asked for."""
    return not chosen.only or tool in chosen.only


def rows(model: ZooModel, chosen: argparse.Namespace, folder: Path) -> Iterator[Result]:
    """The rows of one model, each measured on its first data set."""
    dataset = model.evaluation[0]
    measured_on = model.images(dataset)
    step = 1 if chosen.images is None else max(1, len(measured_on) // chosen.images)
    measured_on = measured_on.part(slice(None, None, step))
    samples = samples_of(model, chosen.samples or folder)
    for tool, calibration, path in written(model, samples, chosen, folder):
        found = compare(model.folded, path, measured_on)
        assert found.scores is not None
        assert found.scores.float_top1 is not None
        assert found.scores.quantized_top1 is not None
        scores = (found.scores.float_top1, found.scores.quantized_top1, found.scores.agreement)
        yield Result(model.name, dataset, found.count, tool, calibration, *scores)


def table(results: list[Result]) -> str:
    """Rows in Markdown."""
    lines = ["| model | images | tool | calibrated on | float | INT8 | agreement |", "|---|---|---|---|---|---|---|"]
    for entry in results:
        head = f"{entry.model} | {entry.images} | {entry.tool} | {entry.calibration}"
        lines.append(f"| {head} | {entry.float_top1:.2f} | {entry.top1:.2f} | {entry.agreement:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Other tools on our samples.")
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--modelopt", type=Path)
    parser.add_argument("--winml", type=Path)
    parser.add_argument("--only", nargs="+", default=[], metavar="TOOL")
    parser.add_argument("--images", type=int)
    parser.add_argument("--results", type=Path)
    chosen = parser.parse_args()
    results = kept(chosen.results, Result)
    done = {entry.model for entry in results}
    with tempfile.TemporaryDirectory() as folder:
        for model in models(chosen.zoo, chosen.models):
            if model.name in done:
                continue
            for result in rows(model, chosen, Path(folder)):
                results.append(result)
                keep(chosen.results, result)
    print(table(results))


if __name__ == "__main__":
    main()
