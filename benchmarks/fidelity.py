"""Whether a fine-tuned file says what the student said: predictions and logits on real images, as a Markdown table.

usage: python -m benchmarks.fidelity [--zoo FOLDER] [--models NAME...] [--bits w4a4...] [--steps N] [--limit N]

Each student learns for a few steps on procedural pictures (how good it gets is no matter here), is exported, and the
file runs in ONNX Runtime. The student runs twice: on integers, as the runtime's kernels compute it
(dfq_deploy/qat/integer_kernels.py), and in floats, as it learns. The largest difference is that of a logit, over the
largest logit's size. The last column is what ONNX Runtime says of the same file with its optimizer and without: what
float sums in another order come to.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime import GraphOptimizationLevel as Level

from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.fit import CalibrationPlan
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.pipeline.train import Learned, Run, train
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.progress import Clock
from dfq_deploy.qat.integer_kernels import with_integer_kernels
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.qat.student import QuantizedStudent
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.samples.batches import split_held_out
from dfq_deploy.samples.samples import Samples
from dfq_deploy.targets.catalog import find_target

MODELS = ["resnet20", "resnet56", "resnet20_kd", "wrn16_1_kd", "mobilenet_v1"]
BATCH = 32


def learned(model: ZooModel, bits: str, steps: int) -> Learned:
    """A student of the model behind a short training."""
    samples = synthesize(model.bn, synth="procedural", count=128, preprocess=model.preprocess)
    used, held = split_held_out(samples)
    widths = Bits.parse(bits)
    calibrator = find_plugin("calibrators", "mse")()
    plan = CalibrationPlan(find_target("cpu"), widths, calibrator, ("bias",), model.preprocess)
    recipe = Recipe(steps=steps, batch=BATCH)
    return train(load(model.bn), used, held, plan, widths, recipe, Run(), Clock())


def compared(made: Learned, images: Samples) -> str:
    """Top-1 of student and file, then what the file has in common with the student, twice, and with itself."""
    exact, floats = (_said(student, images) for student in (with_integer_kernels(made.student), made.student))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exporter = find_plugin("exporters", "qdq")()
        exporter.export(made.quantized.prepared.model, made.quantized.encodings, path)
        optimized, plain = (_scores(path, images, level) for level in (Level.ORT_ENABLE_ALL, Level.ORT_DISABLE_ALL))
    right = [f"{100 * (scores.argmax(1) == images.labels).mean():.2f}" for scores in (exact, optimized)]
    return " | ".join([*right, *(_difference(optimized, other) for other in (exact, floats, plain))])


@torch.no_grad()
def _said(student: QuantizedStudent, images: Samples) -> NDArray[np.float32]:
    parts = np.split(images.images, range(BATCH, len(images), BATCH))
    return np.concatenate([student(torch.from_numpy(part)).numpy() for part in parts])


def _scores(path: Path, images: Samples, level: Level) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = np.split(images.images, range(BATCH, len(images), BATCH))
    return np.concatenate([session.run(None, {name: part})[0] for part in parts])


def _difference(found: NDArray[np.float32], given: NDArray[np.float32]) -> str:
    same = 100 * (found.argmax(1) == given.argmax(1)).mean()
    return f"{same:.2f} %, {np.abs(found - given).max():.2g} of {np.abs(given).max():.3g}"


def main() -> None:
    """Print the table, a row for each model and width."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--bits", nargs="*", default=["w8a8", "w5a5", "w4a4", "w3a3"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--limit", type=int, default=1000, help="images that are compared on")
    args = parser.parse_args()
    print("Same class, largest difference of a logit: the file and another.")
    print("| model | bits | images | top-1, student | file | student on integers | in floats | file, unoptimized |")
    print("|---|---|---|---|---|---|---|---|")
    for model in models(args.zoo, args.models):
        images = model.images(model.evaluation[0])
        some = images.part(slice(None, None, max(1, len(images) // args.limit))).part(slice(args.limit))
        for bits in args.bits:
            shown = compared(learned(model, bits, args.steps), some)
            print(f"| {model.name} | {bits} | {len(some)} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
