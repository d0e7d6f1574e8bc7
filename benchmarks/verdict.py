"""Predicted against real agreement, as a Markdown table, and the coefficients of the prediction.

usage: python -m benchmarks.verdict [--zoo FOLDER...] [--models NAME...] [--settings NAME...] [--cache FOLDER] [--fit]

Each pair of a network and a setting, good or bad, is quantized from its file without BatchNormalization and measured
twice: on held-out inputs that are drawn without data (``dfq_deploy.verdict``), and on real test images (2,000 of 32
pixels, 500 of 224). --fit prints the coefficients of each kind of input that fit the pairs of FIT best, and their error
on each network of FIT where the others alone are fitted; the other networks check them. No remedy is tried. Networks of
a second --zoo, such as the one that ``benchmarks.build_zoo`` writes, take the images of the first.

================== ==================================================================================
setting            what it is
================== ==================================================================================
w8a8 ... w4a4      ``calibrate`` on procedural pictures with bias correction, at these widths
nnapi              the same for NNAPI's per-tensor weights
noise              8 bits, on Gaussian noise, no refinement
noise-minmax       the same with ranges by minmax
zeros, one         8 bits, on blank samples or on a single one, no refinement
real-w8a8 ...      on 96 real training images
activation-fault   the w8a8 file with the scale of one activation, halfway through, 8 times too large
weight-fault       the same of a weight
raw, std-100       procedural pictures behind a preprocess of 0 to 255, or of a standard deviation of 100 (shown, not
                   fitted: nobody can see from the outputs that inputs are wrong; that is judged elsewhere)
================== ==================================================================================

Without --settings each network has those of PAIRS. With --cache files and results are kept in FOLDER, and a later call
goes on from there.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from benchmarks.digits import digits_models
from benchmarks.scoring import keep, kept
from benchmarks.verdict_table import Measured, Real, coefficients, table
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Preprocess, Samples
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.calibrate import DEFAULT_METHOD
from dfq_deploy.pipeline.fit import CalibrationPlan, fit
from dfq_deploy.pipeline.options import widths_of
from dfq_deploy.plugins.registry import calibrator_of, exporter_of
from dfq_deploy.progress import Clock
from dfq_deploy.samples.batches import split_held_out
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.verdict.agreement.held_out import held_out_sets
from dfq_deploy.verdict.agreement.measure import measure_agreement
from dfq_deploy.verdict.agreement.prediction import features_of

COUNT = {True: 96, False: 64}
"""Samples to calibrate with, by whether the input is small."""

REAL = {True: 2000, False: 500}
"""Real images to measure on."""

RULE: Mapping[str, Any] = {"synth": "procedural", "refine": ("bias",)}
PLAIN: Mapping[str, Any] = {"refine": ()}

SMALL = ("w8a8", "w6a6", "w5a5", "w4a8", "w4a4", "noise-minmax", "zeros", "activation-fault", "weight-fault")
LARGE = ("w8a8", "w6a6", "w4a8", "noise-minmax", "activation-fault")

CIFAR_AND_DIGITS = ("digits", "digits_vit", "resnet20", "resnet56", "resnet20_kd", "resnet20_cifar100", "wrn16_1_kd")

FURTHER_CIFAR = (
    "resnet8_cifar10",
    "resnet14_cifar10",
    "resnet32_cifar10",
    "WRN10_1_cifar10",
    "WRN28_1_cifar10",
    "resnet8_cifar100",
    "resnet14_cifar100",
    "resnet26_cifar100",
)
"""Networks that ``benchmarks.build_zoo`` adds."""

PAIRS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys((*CIFAR_AND_DIGITS, *FURTHER_CIFAR), SMALL),
    "mobilenet_v1": (*LARGE, "zeros", "weight-fault"),
    **dict.fromkeys(("efficientnet_lite0", "efficientnet_lite1", "vit_cifar10"), (*LARGE, "zeros")),
}
"""Network -> its settings in the tables of docs/verdict.md."""

SETTINGS: dict[str, Mapping[str, Any]] = {
    "w8a8": RULE,
    "w6a6": {**RULE, "bits": "w6a6"},
    "w5a8": {**RULE, "bits": "w5a8"},
    "w5a5": {**RULE, "bits": "w5a5"},
    "w4a8": {**RULE, "bits": "w4a8"},
    "w4a4": {**RULE, "bits": "w4a4"},
    "nnapi": {**RULE, "target": "nnapi"},
    "noise": {**PLAIN, "synth": "noise"},
    "noise-minmax": {**PLAIN, "synth": "noise", "method": "minmax"},
    "zeros": {**PLAIN, "data": "zeros"},
    "one": {**PLAIN, "synth": "procedural", "count": 1},
    "real-w8a8": {"data": "training", "refine": ("bias",)},
    "real-w4a4": {"data": "training", "refine": ("bias",), "bits": "w4a4"},
    "activation-fault": {},
    "weight-fault": {},
    "raw": RULE,
    "std-100": RULE,
}
"""What :func:`quantized` makes; the last four are treated apart."""

WRONG = {"raw": Preprocess((0.0,), (1 / 255,)), "std-100": Preprocess((0.0,), (100.0,))}
"""Settings whose preprocess is not the network's."""


def is_small(model: ZooModel) -> bool:
    """True for a small input."""
    return max(model.shape) <= 64


def quantized(model: ZooModel, setting: str, cache: Path) -> Path:
    """The file of one pair, which is made where it is not there."""
    path = cache / f"{model.name}-{setting}.onnx"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    if setting.endswith("-fault"):
        plant(quantized(model, "w8a8", cache), path, weight=setting.startswith("weight"))
        return path
    options, preprocess = SETTINGS[setting], WRONG.get(setting, model.preprocess)
    source, synth = load(model.folded), options.get("synth")
    if synth is None:
        samples = given(model, options["data"])
    else:
        count = options.get("count", COUNT[is_small(model)])
        samples = synthesize_from(source, synth, (), count=count, preprocess=preprocess, seed=0, device="cpu")
    target, calibrator = find_target(options.get("target", "cpu")), calibrator_of(options.get("method", DEFAULT_METHOD))
    plan = CalibrationPlan(target, widths_of(options.get("bits")), calibrator, options["refine"], preprocess)
    used, _ = split_held_out(samples)
    found = fit(source, used, plan, synth, (), Clock()).quantized
    exporter_of("qdq").export(found.prepared.model, found.encodings, path)
    return path


def given(model: ZooModel, what: str) -> Samples:
    """Samples that are not synthesized: 32 blank ones, or 96 training images."""
    if what == "zeros":
        return Samples(np.zeros((32, *model.shape), np.float32))
    return Samples(model.images(f"{model.evaluation[0]}_train").images[: COUNT[True]])


def plant(source: Path, path: Path, *, weight: bool) -> None:
    """Copy a quantized file with one scale 8 times too large: of the weight or the activation halfway through."""
    model = onnx.load(source)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    integers = (TensorProto.INT8, TensorProto.UINT8)
    if weight:
        dequantized = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
        scales = [
            n.input[1] for n in dequantized if n.input[0] in constants and constants[n.input[0]].data_type in integers
        ]
    else:
        scales = [node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    scale = constants[scales[len(scales) // 2]]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(8), scale.name))
    onnx.save(model, path)


def real(model: ZooModel, setting: str, path: Path) -> Real:
    """A file against float on real test images, spread evenly over the set."""
    images = model.images(model.evaluation[0])
    count = min(len(images), REAL[is_small(model)])
    scores = compare(model.folded, path, images.part(np.arange(count) * len(images) // count)).scores
    assert scores is not None
    assert scores.drop is not None
    return Real(model.name, setting, count, scores.agreement, scores.drop)


def measured(model: ZooModel, setting: str, path: Path) -> Iterator[Measured]:
    """A file against float on each kind of held-out inputs."""
    preprocess = WRONG.get(setting, model.preprocess)
    nothing = Samples(
        np.zeros((1, *model.shape), np.float32)
    )  # no sample is held back, so only drawn kinds are measured
    sets = held_out_sets(load(model.folded), nothing, preprocess=preprocess, seed=0)
    kinds = measure_agreement(model.folded, path, sets).kinds
    features = features_of({kind.kind: kind.comparison.scores for kind in kinds if kind.comparison.scores is not None})
    for kind in kinds:
        interval, found = kind.agreement, features[kind.kind]
        assert interval is not None
        yield Measured(
            model.name, setting, kind.kind, interval.count, interval.value, found.counted, found.changed,
            found.by_class, found.confidence, found.variation, kind.worst_output[1], found.lost,
            found.moved,
        )  # fmt: skip


def pairs(zoos: Sequence[Path], wanted: list[str], settings: list[str]) -> Iterator[tuple[ZooModel, str]]:
    """Networks and their settings; of one in several zoos the first, and the images of the first zoo for all."""
    found = {model.name: replace(model, zoo=zoos[0]) for zoo in reversed(zoos) for model in models(zoo, wanted)}
    for model in (*digits_models(wanted or ["digits", "digits_vit"]), *found.values()):
        for setting in settings or PAIRS[model.name]:
            trains = model.evaluation[0].startswith("cifar")
            if trains or not setting.startswith("real-"):
                yield model, setting


def main() -> None:
    """Measure what is not yet measured, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, nargs="+", default=[DEFAULT_ZOO])
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--settings", nargs="*", default=[], choices=SETTINGS)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--fit", action="store_true")
    args = parser.parse_args()
    with TemporaryDirectory() as temporary:
        cache: Path = args.cache or Path(temporary)
        truths, figures = kept(cache / "real.jsonl", Real), kept(cache / "measured.jsonl", Measured)
        for model, setting in pairs(args.zoo, args.models, args.settings):
            path = quantized(model, setting, cache)
            _complete(truths, model, setting, lambda: [real(model, setting, path)], cache / "real.jsonl")  # noqa: B023
            _complete(figures, model, setting, lambda: measured(model, setting, path), cache / "measured.jsonl")  # noqa: B023
    if args.fit:
        print("\n".join(coefficients(truths, figures, leave_out=set(WRONG))))
    print(table(truths, figures, leave_out=set(WRONG)))


def _complete(results: list[Any], model: ZooModel, setting: str, measure: Callable[[], Any], path: Path) -> None:
    """Add a pair's results where there are none yet."""
    if any((entry.model, entry.setting) == (model.name, setting) for entry in results):
        return
    for entry in measure():
        print(entry, file=sys.stderr, flush=True)
        results.append(entry)
        keep(path, entry)


if __name__ == "__main__":
    main()
