"""What the sanity findings say of good and bad sample sets, and what each set costs, as Markdown tables.

usage: python -m benchmarks.sanity [--zoo FOLDER] [--models NAME...] [--images N] [--truth] [--results FILE]

The thresholds of ``dfq_deploy/verdict`` stand on these tables (docs/verdict-samples.md). Good sets are real training
images and samples that are synthesized or drawn by rule; bad ones are zeros, noise, one color each, one image repeated,
16-bit images read as 8-bit, dark images, and real images under a wrong preprocess. Each is judged for the model with
its BatchNormalization and for the one where it is folded. --truth calibrates with each set and compares float and INT8
on 500 other training images. No image of an evaluation set is touched; the models of 224 x 224 have no training images
here, and make do with pictures drawn by rule.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.digits import digits_models
from benchmarks.scoring import keep, kept
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Preprocess, Samples, calibrate, synthesize
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.synthesis.methods.deepinversion import DeepInversion
from dfq_deploy.synthesis.procedural.pictures import Pictures
from dfq_deploy.verdict.finding import LEVELS, worst
from dfq_deploy.verdict.sanity.findings import sanity_findings
from examples.digits import data

MODELS = ["digits", "resnet20", "resnet20_kd", "wrn16_1_kd", "resnet20_cifar100", "vit_cifar10", "mobilenet_v1"]

Pixels = NDArray[np.uint8]

TRUTH_IMAGES = slice(700, 1200)
"""Training images that the truth is measured on; no set holds them."""

SHORT = 60
"""Iterations of DeepInversion."""


@dataclass(frozen=True)
class Set:
    """A sample set: ``good`` says what the findings should say of it; None where that depends on the model."""

    name: str
    samples: Samples
    preprocess: Preprocess | None
    good: bool | None


@dataclass(frozen=True)
class Result:
    """One set for one file.

    Args:
        file: ``bn`` or ``folded``.
        good: 1, 0, or -1 where it depends on the model.
        level: the worst level of the findings.
        codes: the findings of that level.
        figures: of all findings.
        agreement, snr: of INT8 with float on real images; -1 where not measured.
        seconds: what the findings took, without the quality figures.
    """

    model: str
    file: str
    set: str
    good: int
    level: str
    codes: str
    figures: dict[str, float]
    agreement: float
    snr: float
    seconds: float


def pixels_of(model: ZooModel, count: int, chosen: slice | None = None) -> Pixels:
    """Real training images (N, H, W, C), or pictures drawn by rule where there are none."""
    if model.name.startswith("digits"):
        images: Pixels = data.training().images
    elif model.shape[1] == 32:
        name = "cifar100" if model.name.endswith("cifar100") else "cifar10"
        with np.load(model.zoo / f"data/{name}_train_calibration.npz") as arrays:
            images = arrays["images"]
    else:
        generator = np.random.default_rng(1)
        drawn = Pictures().draw(count, model.shape, generator)
        images = np.rint(255 * drawn).astype(np.uint8).transpose(0, 2, 3, 1)
    return images[slice(count) if chosen is None else chosen]


def fitted(preprocess: Preprocess, channels: int) -> Preprocess:
    """The preprocess for an input of so many channels."""
    if len(preprocess.mean) in (1, channels):
        return preprocess
    return Preprocess((float(np.mean(preprocess.mean)),), (float(np.mean(preprocess.std)),))


def wrong(own: Preprocess, channels: int) -> Iterator[tuple[str, Preprocess, bool | None]]:
    """Preprocesses by name; those of a family are near each other, so the known ones depend on the model."""
    for name, entry in PREPROCESSES.items():
        yield name, fitted(entry, channels), False if name == "raw" else None
    yield "std 100", Preprocess(own.mean, (100.0,) * len(own.std)), False
    yield "mean 123 std 58", Preprocess((123.0,), (58.0,)), False
    for factor in (0.25, 0.5, 2, 4):
        yield f"std x {factor:g}", Preprocess(own.mean, tuple(factor * value for value in own.std)), None


def sets(model: ZooModel, count: int) -> Iterator[Set]:
    """All sets of one model."""
    own, channels, pixels = model.preprocess, model.shape[0], pixels_of(model, count)
    real, generator = Samples(own.apply(pixels)), np.random.default_rng(0)
    low, high = (bound[:, None, None] for bound in own.bounds(channels))
    yield Set("real images", real, own, True)
    yield Set("procedural", synthesize(model.bn, synth="procedural", count=count, preprocess=own), own, True)
    if model.shape[1] == 32 or model.name == "digits":
        yield Set("deepinversion", inverted(model, own, count), own, True)
    yield from (Set(f"{few} real", real.part(slice(few)), own, few >= 8) for few in (1, 2, 4, 8, 16))
    yield Set("zeros", Samples(np.zeros_like(real.images)), own, False)
    uniform = generator.uniform(0, 1, real.images.shape) * (high - low) + low
    yield Set("uniform noise", Samples(uniform.astype(np.float32)), own, None)
    yield Set("gaussian noise", Samples(generator.standard_normal(real.images.shape, np.float32)), None, None)
    colors = generator.uniform(0, 1, (count, channels, 1, 1)) * (high - low) + low
    yield Set("one color each", Samples(np.broadcast_to(colors, real.images.shape).astype(np.float32)), own, False)
    yield Set("one image repeated", Samples(np.repeat(real.images[:1], count, axis=0)), own, False)
    clipped = np.minimum(pixels.astype(np.int64) * 257, 255).astype(np.uint8)
    yield Set("16 bits read as 8", Samples(own.apply(clipped)), own, False)
    yield from (Set(f"pixels / {part}", Samples(own.apply(pixels // part)), own, None) for part in (2, 4, 10))
    for name, preprocess, good in wrong(own, channels):
        yield Set(f"real, {name}", Samples(preprocess.apply(pixels)), preprocess, good)
    if model.name.startswith(("digits", "resnet20")):
        for name in ("raw", "zero-one", "minus-one-one", "imagenet"):
            preprocess = fitted(PREPROCESSES[name], channels)
            yield Set(f"deepinversion, {name}", inverted(model, preprocess, count), preprocess, None)
    yield Set(
        "0 to 255, told minus-one-one", Samples(PREPROCESSES["raw"].apply(pixels)), PREPROCESSES["minus-one-one"], False
    )
    yield Set("0 to 1, told raw", Samples(PREPROCESSES["zero-one"].apply(pixels)), PREPROCESSES["raw"], False)


def inverted(model: ZooModel, preprocess: Preprocess, count: int) -> Samples:
    """A short DeepInversion."""
    return synthesize(model.bn, synth=DeepInversion(iterations=SHORT), count=count, preprocess=preprocess)


def truth(model: ZooModel, entry: Set, measured_on: Samples) -> tuple[float, float]:
    """Agreement in percent and signal-to-noise ratio in dB of the INT8 file that ``entry`` calibrates."""
    with tempfile.TemporaryDirectory() as folder:
        made = calibrate(model.bn, data=entry.samples, preprocess=entry.preprocess, output=Path(folder) / "out")
        assert made.model_path is not None
        found = compare(model.folded, made.model_path, measured_on)
    assert found.scores is not None
    return found.scores.agreement, found.outputs[0].snr


def rows(model: ZooModel, count: int, *, with_truth: bool) -> Iterator[Result]:
    """The results of one model."""
    files = {"bn": load(model.bn), "folded": load(model.folded)}
    if model.bn == model.folded:
        files.pop("folded")
    known = with_truth and (model.shape[1] == 32 or model.name.startswith("digits"))
    measured_on = Samples(model.preprocess.apply(pixels_of(model, count, TRUTH_IMAGES))) if known else None
    for entry in sets(model, count):
        agreement, snr = (-1.0, -1.0) if measured_on is None else truth(model, entry, measured_on)
        for file, graph in files.items():
            if file == "folded" and entry.name.startswith("deepinversion,"):
                continue  # it takes a network with BatchNormalization to make them
            started = perf_counter()
            findings = sanity_findings(graph, entry.samples, entry.preprocess)
            seconds = perf_counter() - started
            level = worst(findings)
            codes = ", ".join(finding.code for finding in findings if finding.level == level != "OK")
            figures = {key: value for finding in findings for key, value in (finding.figures or {}).items()}
            good = -1 if entry.good is None else int(entry.good)
            yield Result(model.name, file, entry.name, good, level, codes, figures, agreement, snr, seconds)


def spread(values: Sequence[float]) -> str:
    """Smallest and largest."""
    return f"{min(values):.3g} to {max(values):.3g}" if values else "-"


FIGURES = ("statistics_distance", "diversity", "class_share_largest", "scale", "shift", "response_to_bias", "pixel_std")


def table(results: Sequence[Result]) -> str:
    """One row for each set: figures over the models, and how often it is called what."""
    lines = [
        f"| set | agreement | SNR | {' | '.join(FIGURES)} | OK, CHECK, BAD with BN | folded |",
        "|---|---|---|" + "---|" * (len(FIGURES) + 2),
    ]
    names = list(dict.fromkeys(entry.set for entry in results))
    for name, group in groupby(sorted(results, key=lambda entry: names.index(entry.set)), lambda entry: entry.set):
        mine = list(group)
        measured = [entry for entry in mine if entry.agreement >= 0]
        cells = [spread([entry.agreement for entry in measured]), spread([entry.snr for entry in measured])]
        cells += [spread([entry.figures[key] for entry in mine if key in entry.figures]) for key in FIGURES]
        for file in ("bn", "folded"):
            levels = [entry.level for entry in mine if entry.file == file]
            cells.append(", ".join(str(levels.count(level)) for level in LEVELS))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print a row a result as soon as it is measured, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--results", type=Path)
    chosen = parser.parse_args()
    results = kept(chosen.results, Result)
    done = {entry.model for entry in results}
    for model in [*digits_models(chosen.models), *models(chosen.zoo, chosen.models)]:
        if model.name in done:
            continue
        for result in rows(model, chosen.images, with_truth=chosen.truth):
            results.append(result)
            keep(chosen.results, result)
            print(f"{result.model} {result.file} {result.set}: {result.level} {result.codes}", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
