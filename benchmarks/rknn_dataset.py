"""RKNN-Toolkit2's own quantizer on our samples: top-1 of its simulator, as a Markdown table.

usage: python -m benchmarks.rknn_dataset --rknn PYTHON [--zoo FOLDER] [--models NAME...] [--platform rk3588]
       [--images N] [--samples FOLDER] [--results FILE]

RKNN-Toolkit2 is run by the Python that --rknn names, since it requires old versions of NumPy, onnx and torch. Its
quantizer asks for a list of files; there is no default without data. Rows: uniform noise of 0 to 255; our samples as
pixels (N, C, H, W), as docs/other-tools.md writes them; and no quantizer, but the file of ``--target rknn`` calibrated
on the same samples. The samples are those of FOLDER (``MODEL.npz``), or are synthesized by this package's defaults and
left there. Measured on evenly spread images, which calibrate nothing.
"""

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.runtime_runs import in_onnx_runtime
from benchmarks.scoring import keep, kept
from benchmarks.tools import NOISE, samples_of
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Preprocess, calibrate

MODELS = ["resnet20_kd", "mobilenet_v1"]

SCRIPT = """
import json, sys
import numpy as np
from rknn.api import RKNN

request = json.loads(sys.argv[1])
rknn = RKNN(verbose=False)
rknn.config(target_platform=request["platform"], **request["config"])
for step in (
    lambda: rknn.load_onnx(**request["load"]),
    lambda: rknn.build(**request["build"]),
    rknn.init_runtime,
):
    if step() != 0:
        sys.exit("RKNN-Toolkit2 refuses " + request["load"]["model"])
images = np.load(request["images"])
scores = [rknn.inference(inputs=[image[None]], data_format=[request["layout"]])[0] for image in images]
np.save(request["output"], np.concatenate(scores))
rknn.release()
"""
"""Run with a request as JSON; it leaves the scores of all images."""


@dataclass(frozen=True)
class Result:
    """One row; all but ``images`` in percent."""

    model: str
    images: int
    calibration: str
    float_top1: float
    top1: float
    agreement: float


def pixels_of(images: NDArray[np.float32], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Normalized images (N, C, H, W) as pixels (N, H, W, C)."""
    mean, std = (np.reshape(part, (1, -1, 1, 1)) for part in (preprocess.mean, preprocess.std))
    pixels: NDArray[np.uint8] = np.clip(np.rint(255 * (images * std + mean)), 0, 255).astype(np.uint8)
    return pixels.transpose(0, 2, 3, 1)


def simulated(python: Path, request: dict[str, Any], images: NDArray[Any], folder: Path) -> NDArray[np.int64]:
    """The classes that the simulator gives."""
    np.save(folder / "images.npy", images)
    files = {"images": str(folder / "images.npy"), "output": str(folder / "scores.npy")}
    command = [str(python), "-c", SCRIPT, json.dumps({**request, **files})]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if run.returncode != 0:
        raise RuntimeError(f"RKNN-Toolkit2 failed:\n{(run.stdout + run.stderr)[-2000:]}")
    scores: NDArray[np.float32] = np.load(files["output"])
    classes: NDArray[np.int64] = scores.argmax(-1)
    return classes


def quantized_by_rknn(
    model: ZooModel, calibration: NDArray[np.uint8], images: NDArray[np.float32], chosen: argparse.Namespace
) -> NDArray[np.int64]:
    """The classes of what RKNN's quantizer makes of the float file."""
    preprocess = model.preprocess
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [f"{folder}/{index}.npy" for index in range(len(calibration))]
        for line, picture in zip(lines, calibration, strict=True):
            np.save(line, picture.transpose(2, 0, 1)[None])
        (folder / "dataset.txt").write_text("\n".join(lines), encoding="utf-8")
        units = {f"{part}_values": [[255 * value for value in getattr(preprocess, part)]] for part in ("mean", "std")}
        port = onnx.load(model.folded, load_external_data=False).graph.input[0].name
        load = {"model": str(model.folded), "inputs": [port], "input_size_list": [[1, *model.shape]]}
        request = {
            **{"platform": chosen.platform, "load": load, "layout": "nhwc", "config": units},
            "build": {"do_quantization": True, "dataset": str(folder / "dataset.txt")},
        }
        return simulated(chosen.rknn, request, pixels_of(images, preprocess), folder)


def quantized_by_us(
    model: ZooModel, samples: Any, images: NDArray[np.float32], chosen: argparse.Namespace
) -> NDArray[np.int64]:
    """The classes of the file of ``--target rknn``, whose scales the toolkit takes over."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibrate(model.folded, data=samples, preprocess=model.preprocess, target="rknn", output=folder / "ours")
        request = {
            **{"platform": chosen.platform, "load": {"model": str(folder / "ours/model.qdq.onnx")}, "layout": "nchw"},
            **{"config": {}, "build": {"do_quantization": False}},
        }
        return simulated(chosen.rknn, request, images, folder)


def rows(model: ZooModel, chosen: argparse.Namespace, folder: Path) -> list[Result]:
    """The rows of one model."""
    everything = model.images(model.evaluation[0])
    measured = everything.part(slice(None, None, max(1, len(everything) // chosen.images)))
    images, labels = np.asarray(measured.images, np.float32), measured.labels
    assert labels is not None
    run = in_onnx_runtime(model.folded)
    plain = np.concatenate([run(image[None]) for image in images]).argmax(-1)
    samples = samples_of(model, chosen.samples or folder)
    noise = np.random.default_rng(0).integers(0, 256, (NOISE, *model.shape[1:], 3)).astype(np.uint8)
    ours = pixels_of(samples.images, model.preprocess)
    found = {
        "RKNN, uniform noise": quantized_by_rknn(model, noise, images, chosen),
        "RKNN, our samples": quantized_by_rknn(model, ours, images, chosen),
        "`--target rknn`, our samples": quantized_by_us(model, samples, images, chosen),
    }
    return [
        Result(model.name, len(images), calibration, *(100 * float(np.mean(same)) for same in (
            plain == labels, classes == labels, classes == plain
        )))
        for calibration, classes in found.items()
    ]  # fmt: skip


def table(results: list[Result]) -> str:
    """Rows in Markdown."""
    lines = ["| model | images | scales | float | INT8 | agreement |", "|---|---|---|---|---|---|"]
    for entry in results:
        figures = " | ".join(f"{value:.2f}" for value in (entry.float_top1, entry.top1, entry.agreement))
        lines.append(f"| {entry.model} | {entry.images} | {entry.calibration} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rknn", type=Path, required=True, help="a Python with rknn-toolkit2")
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--platform", default="rk3588")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--results", type=Path)
    chosen = parser.parse_args()
    results = kept(chosen.results, Result)
    done = {entry.model for entry in results}
    with tempfile.TemporaryDirectory() as folder:
        for model in models(chosen.zoo, chosen.models):
            for result in rows(model, chosen, Path(folder)) if model.name not in done else ():
                results.append(result)
                keep(chosen.results, result)
    print(table(results))


if __name__ == "__main__":
    main()
