"""The zoo on the simulator of Qualcomm's NPU, against the same files on the CPU, as a Markdown table.

usage: python -m benchmarks.qnn [--zoo FOLDER] [--models NAME...] [--bits w8a16] [--synth NAME] [--images N]
       [--results FILE]

Needs ``onnxruntime-qnn``: ``pip install 'dfq-deploy[qnn]'``. Each model is calibrated for the target ``qnn``, with real
images that are not measured on, or with synthesized ones (``--synth``, data-free). A session that leaves a node to the
CPU is refused, so a row says that the whole graph runs on the HTP. The context must give the file's own outputs, bit
for bit. The simulator takes 0.1 to 3 seconds for an image: 300 CIFAR-10 images and 80 ImageNet images are measured on,
spread evenly over the first data set of the model, unless --images says otherwise.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from dfq_deploy.exporters.qnn import open_session
from numpy.typing import NDArray

from benchmarks.scoring import keep, kept
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import calibrate

CALIBRATION_IMAGES = 128

SMALL, LARGE = 300, 80
"""Images of 32 x 32 and of 224 x 224 that are measured on."""

COMPARED = 5
"""Images on which the context is compared with the file."""


@dataclass(frozen=True)
class Result:
    """One row.

    Args:
        calibration: what the ranges come from.
        float_top1, cpu_top1, npu_top1, agreement: percent; the last between the CPU and the NPU on the same file.
        context: the context gives the same outputs as the file.
        seconds: of one image on the simulator.
    """

    model: str
    bits: str
    calibration: str
    images: int
    float_top1: float
    cpu_top1: float
    npu_top1: float
    agreement: float
    context: bool
    seconds: float


def classes(session: ort.InferenceSession, images: NDArray[np.float32]) -> NDArray[np.int64]:
    """The class of each image, one at a time."""
    return np.array([scores(session, image).argmax() for image in images])


def scores(session: ort.InferenceSession, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first output for one image."""
    found: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: image[None]})[0]
    return found.reshape(-1)


def on_cpu(path: Path) -> ort.InferenceSession:
    """A session of ONNX Runtime's own kernels."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(model: ZooModel, bits: str, synth: str | None, count: int | None, folder: Path) -> Result:
    """Calibrate one model for the NPU, and run it there and on the CPU."""
    real, measured_on = next(model.folds(model.evaluation[0], CALIBRATION_IMAGES))
    source = {"data": real} if synth is None else {"synth": synth, "teachers": [model.bn]}
    result = calibrate(
        model.folded, target="qnn", bits=bits, preprocess=model.preprocess, output=folder / model.name, **source
    )
    assert result.model_path is not None
    wanted = count or (SMALL if model.shape[-1] < 100 else LARGE)
    step = max(1, len(measured_on) // wanted)
    chosen = measured_on.part(slice(0, step * wanted, step))
    npu, context = (open_session(result.model_path.with_name(name)) for name in ("model.qdq.onnx", "model_ctx.onnx"))
    started = time.perf_counter()
    found = classes(npu, chosen.images)
    seconds = (time.perf_counter() - started) / len(chosen)
    expected = classes(on_cpu(result.model_path), chosen.images)
    plain = classes(on_cpu(model.folded), chosen.images)
    same = [np.array_equal(scores(npu, image), scores(context, image)) for image in chosen.images[:COMPARED]]
    assert chosen.labels is not None
    head = (model.name, bits, synth or "real images", len(chosen))
    top1 = (percent(plain, chosen.labels), percent(expected, chosen.labels), percent(found, chosen.labels))
    return Result(*head, *top1, percent(found, expected), all(same), seconds)


def percent(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """How many are the same."""
    return 100 * float((found == expected).mean())


def table(results: list[Result]) -> str:
    """Rows in Markdown."""
    lines = [
        "| model | bits | calibrated on | images | float | CPU | HTP simulator | HTP agrees with CPU | context |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in results:
        cells = [f"{value:.2f}" for value in (entry.float_top1, entry.cpu_top1, entry.npu_top1)]
        same = "the same" if entry.context else "differs"
        head = f"{entry.model} | {entry.bits} | {entry.calibration} | {entry.images}"
        lines.append(f"| {head} | {' | '.join(cells)} | {entry.agreement:.2f} % | {same} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="The zoo on the simulator of Qualcomm's NPU.")
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="+", default=[])
    parser.add_argument("--bits", default="w8a8")
    parser.add_argument("--synth")
    parser.add_argument("--images", type=int)
    parser.add_argument("--results", type=Path)
    chosen = parser.parse_args()
    results = kept(chosen.results, Result)
    done = {(entry.model, entry.bits, entry.calibration) for entry in results}
    with tempfile.TemporaryDirectory() as folder:
        for model in models(chosen.zoo, chosen.models):
            if (model.name, chosen.bits, chosen.synth or "real images") in done:
                continue
            results.append(measure(model, chosen.bits, chosen.synth, chosen.images, Path(folder)))
            keep(chosen.results, results[-1])
    print(table(results))


if __name__ == "__main__":
    main()
