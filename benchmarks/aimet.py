"""AIMET's simulation with encodings of this package, and this package with encodings of AIMET, as a Markdown table.

usage: python -m benchmarks.aimet --aimet PYTHON --samples FOLDER [--zoo FOLDER] [--models NAME...] [--images N]

AIMET is run by the Python that --aimet names (aimet-onnx 2.42), in an environment of its own. Rows: our encodings
(target ``cpu``, no refinement) loaded by its ``load_encodings_to_sim``, as AIMET comes and without its rule that
AveragePool, Concat and Relu have one encoding for input and output; what its own ``compute_encodings`` reaches with
uniform noise and with the samples of FOLDER (``MODEL.npz``). For each, its simulation beside ONNX Runtime on the QDQ
file of the same encodings: the file that ours were exported to, or what ``export --encodings`` makes of those that
AIMET exported. Measured on evenly spread images, which calibrate nothing.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.litert import decibels
from benchmarks.runtime_runs import in_onnx_runtime
from benchmarks.tools import NOISE
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples, calibrate, export
from dfq_deploy.errors import DfqError

MODELS = ["resnet20_kd", "mobilenet_v1"]

SCRIPT = """
import json, sys
import numpy as np
import onnx
from aimet_onnx import quantsim

request = json.loads(sys.argv[1])
if request["untied"]:
    quantsim.op_types_to_tie_qtzrs.clear()
model = onnx.load(request["model"])
name, images = model.graph.input[0].name, np.load(request["images"])
sim = quantsim.QuantizationSimModel(
    model, param_type="int8", activation_type="int8", dummy_input={name: images[:1]}, providers=["CPUExecutionProvider"]
)
if "encodings" in request:
    quantsim.load_encodings_to_sim(sim, request["encodings"], strict=False)
else:
    sim.compute_encodings([{name: sample[None]} for sample in np.load(request["samples"])])
    sim.export(request["folder"], "theirs")
np.save(request["output"], np.concatenate([sim.session.run(None, {name: image[None]})[0] for image in images]))
"""
"""Run with a request as JSON; it leaves the scores of all images, and AIMET's encodings where it made them."""


def simulated(chosen: argparse.Namespace, folder: Path, images: NDArray[np.float32], **request: Any) -> NDArray[Any]:
    """The scores of AIMET's simulation."""
    np.save(folder / "images.npy", images)
    files = {"images": folder / "images.npy", "output": folder / "scores.npy", "folder": folder}
    text = json.dumps({"untied": False, **request, **files}, default=str)
    run = subprocess.run([str(chosen.aimet), "-c", SCRIPT, text], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"AIMET failed:\n{run.stderr[-2000:]}")
    scores: NDArray[Any] = np.load(files["output"])
    return scores


def rows(model: ZooModel, chosen: argparse.Namespace, folder: Path) -> list[str]:
    """The rows of one model."""
    everything = model.images(model.evaluation[0])
    measured = everything.part(slice(None, None, max(1, len(everything) // chosen.images)))
    images, labels = np.asarray(measured.images, np.float32), measured.labels
    samples = Samples.load(chosen.samples / f"{model.name}.npz")
    calibrate(
        model.folded, data=samples, preprocess=model.preprocess, target="cpu", refine=(), floor="none",
        output=folder / "ours",
    )  # fmt: skip
    source, ours = folder / "net.aimet.onnx", folder / "net.aimet.encodings"
    export(model.folded, to="aimet", encodings=folder / "ours/encodings.json", output=source)
    noise = np.random.default_rng(0).uniform(0, 1, (NOISE, *model.shape)).astype(np.float32)
    np.save(folder / "ours.npy", samples.images)
    np.save(folder / "noise.npy", noise)

    def scores_of(path: Path) -> NDArray[Any]:
        run = in_onnx_runtime(path)
        return np.concatenate([run(image[None]) for image in images])

    def row(label: str, theirs: NDArray[Any], path: Path | str) -> str:
        cells = [model.name, str(len(images)), label, f"{100 * np.mean(theirs.argmax(1) == labels):.2f}"]
        if isinstance(path, str):
            return f"| {' | '.join((*cells, path, '', ''))} |"
        file = scores_of(path)
        same = 100 * np.mean(theirs.argmax(1) == file.argmax(1))
        cells += [f"{100 * np.mean(file.argmax(1) == labels):.2f}", f"{same:.2f}", f"{decibels([file], [theirs]):.1f}"]
        return f"| {' | '.join(cells)} |"

    lines = []
    for label, untied in (("ours", False), ("ours, each tensor its own", True)):
        theirs = simulated(chosen, folder, images, model=source, encodings=ours, untied=untied)
        lines.append(row(label, theirs, folder / "ours/model.qdq.onnx"))
    for label, name in (("AIMET's, uniform noise", "noise"), ("AIMET's, our samples", "ours")):
        theirs = simulated(chosen, folder, images, model=source, samples=folder / f"{name}.npy")
        back = folder / f"{name}.qdq.onnx"
        try:
            export(model.folded, to="qdq", encodings=folder / "theirs.encodings", target="qnn", output=back)
            lines.append(row(label, theirs, back))
        except DfqError as problem:
            lines.append(row(label, theirs, str(problem)))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--aimet", type=Path, required=True, help="a Python with aimet-onnx")
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--images", type=int, default=200)
    chosen = parser.parse_args()
    print("| model | images | encodings | top-1 in AIMET | top-1 of our file | same class | dB |")
    print("|---|---|---|---|---|---|---|")
    for model in models(chosen.zoo, chosen.models):
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(rows(model, chosen, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
