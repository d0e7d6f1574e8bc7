"""Predicted against real agreement of networks that read no pictures: a Markdown table, and another fit.

usage: python -m benchmarks.signals [--seeds N...]

Networks are trained on tables and series that scikit-learn carries or makes, of mean 0 and deviation 1 in each column,
and quantized in several ways. Each pair is measured on drawn inputs, and on the rows that trained nothing. The
prediction has the coefficients of procedural pictures. Those that fit these pairs best are printed too, with the error
on a network where all others are fitted.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from benchmarks.features import HIDDEN, Table, fitted_to, table_of
from benchmarks.verdict import plant
from benchmarks.verdict_table import Measured, Pair, Real, fit_of
from dfq_deploy import Samples
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
from dfq_deploy.verdict.agreement.held_out import BY_RULE, held_out_sets
from dfq_deploy.verdict.agreement.measure import measure_agreement
from dfq_deploy.verdict.agreement.prediction import features_of
from dfq_deploy.verdict.judge import class_level

SETTINGS = ("w8a8", "w6a6", "w4a8", "w4a4", "activation-fault", "weight-fault")

COUNT = 96
"""Samples to calibrate with."""

STEPS = 8
"""Rows of a digit, which are the steps of a series."""

CHANNELS = 32


class Last(nn.Module):
    """The last output of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Series (N, T, F)."""
        outputs: torch.Tensor = self.layer(series)[0][:, -1]
        return outputs


class Turn(nn.Module):
    """Exchanges steps and features."""

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Series (N, T, F)."""
        return series.transpose(1, 2)


class Steps(nn.Module):
    """Splits a row of features into the steps of a series."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (N, T * F)."""
        return rows.reshape(rows.shape[0], STEPS, -1)


def mlp(features: int, classes: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)
    )


def normalized(features: int, classes: int) -> nn.Module:
    """Two hidden layers with BatchNormalization."""
    hidden = (nn.Linear(HIDDEN, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU())
    return nn.Sequential(
        nn.Linear(features, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), *hidden, nn.Linear(HIDDEN, classes)
    )


def lstm(features: int, classes: int) -> nn.Module:
    """An LSTM over the steps."""
    return nn.Sequential(
        Steps(), Last(nn.LSTM(features // STEPS, CHANNELS, batch_first=True)), nn.Linear(CHANNELS, classes)
    )


def gru(features: int, classes: int) -> nn.Module:
    """A GRU over the steps."""
    return nn.Sequential(
        Steps(), Last(nn.GRU(features // STEPS, CHANNELS, batch_first=True)), nn.Linear(CHANNELS, classes)
    )


def convolutions(features: int, classes: int) -> nn.Module:
    """Two convolutions over the steps."""
    inner = (nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    first = nn.Conv1d(features // STEPS, CHANNELS, 3, padding=1)
    return nn.Sequential(Steps(), Turn(), first, nn.ReLU(), *inner, nn.Linear(CHANNELS, classes))


Builder = Callable[[int, int], nn.Module]

NETWORKS: Mapping[str, tuple[Builder, ...]] = {
    "breast_cancer": (mlp, normalized),
    "wine": (mlp, normalized),
    "digits": (mlp, normalized, lstm, gru, convolutions),
    "made": (mlp, normalized, lstm, convolutions),
}
"""Table -> its networks."""


def exported(network: nn.Module, table: Table, path: Path) -> None:
    """Write an ONNX file with an open batch."""
    names = {"x": {0: "n"}, "y": {0: "n"}}
    rows = (torch.tensor(table.rest[:1]),)
    torch.onnx.export(network, rows, path, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=names)


def quantized(source: Path, setting: str, seed: int) -> Path:
    """The file of one setting, beside its source."""
    path = source.with_name(f"{source.stem}-{setting}.onnx")
    if setting.endswith("-fault"):
        plant(source.with_name(f"{source.stem}-w8a8.onnx"), path, weight=setting.startswith("weight"))
        return path
    model = load(source)
    samples = synthesize_from(model, "procedural", (), count=COUNT, preprocess=None, seed=seed, device="cpu")
    plan = CalibrationPlan(find_target("cpu"), widths_of(setting), calibrator_of(DEFAULT_METHOD), ("bias",), None)
    used, _ = split_held_out(samples)
    found = fit(model, used, plan, "procedural", (), Clock()).quantized
    exporter_of("qdq").export(found.prepared.model, found.encodings, path)
    return path


def pairs(seeds: list[int], folder: Path) -> Iterator[tuple[Pair, str]]:
    """Each network, setting and seed with its figures, and its level."""
    for name, builders in NETWORKS.items():
        for builder in builders:
            for seed in seeds:
                table = table_of(name, "outside", seed)
                torch.manual_seed(seed)
                network = fitted_to(table, builder(table.training.shape[1], int(table.classes.max()) + 1))
                label = f"{name} {builder.__name__}"
                source = folder / f"{name}-{builder.__name__}-{seed}.onnx"
                exported(network, table, source)
                for setting in SETTINGS:
                    yield _pair(label, setting, source, quantized(source, setting, seed), table, seed)


def _pair(label: str, setting: str, source: Path, path: Path, table: Table, seed: int) -> tuple[Pair, str]:
    scores = compare(source, path, Samples(table.rest, table.rest_classes)).scores
    assert scores is not None
    assert scores.drop is not None
    nothing = Samples(np.zeros((1, table.rest.shape[1]), np.float32))
    agreement = measure_agreement(source, path, held_out_sets(load(source), nothing, seed=seed))
    (kind,) = agreement.kinds
    assert kind.comparison.scores is not None
    assert kind.agreement is not None
    assert agreement.predicted is not None
    found = features_of({BY_RULE: kind.comparison.scores})[BY_RULE]
    measured = Measured(
        label, setting, BY_RULE, kind.agreement.count, kind.agreement.value, found.counted, found.changed,
        found.by_class, found.confidence, found.variation, kind.worst_output[1], found.lost, found.moved,
    )  # fmt: skip
    real = Real(label, setting, len(table.rest), scores.agreement, scores.drop)
    return Pair(real, {BY_RULE: measured}), class_level(agreement.predicted)


def main() -> None:
    """Print a row for each pair, the coefficients, and how far predictions are off."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    args = parser.parse_args()
    print("| network | setting | real drop | real agreement | predicted | counted | verdict |")
    print("|---|---|---|---|---|---|---|")
    every = []
    with TemporaryDirectory() as folder:
        for pair, level in pairs(args.seeds, Path(folder)):
            every.append((pair, level))
            real, counted = pair.real, pair.kinds[BY_RULE].agreement
            figures = f"{real.drop:.1f} | {real.agreement:.1f} | {pair.predicted.value:.1f} | {counted:.1f}"
            print(f"| {real.model} | {real.setting} | {figures} | {level} |", flush=True)
    found = [pair for pair, _ in every]
    print(fit_of(BY_RULE, found))
    errors = [abs(pair.predicted.value - pair.real.agreement) for pair in found]
    bad = [level for pair, level in every if pair.real.drop > 3]
    good = [level for pair, level in every if pair.real.drop < 0.5]
    print(f"{len(found)} pairs, {np.mean(errors):.2f} points off in the mean")
    print(f"of {len(bad)} that lose more than 3 points {bad.count('OK')} are OK; ", end="")
    print(f"of {len(good)} that lose less than 0.5 {len(good) - good.count('OK')} are not")


if __name__ == "__main__":
    main()
