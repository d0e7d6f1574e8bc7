"""What ``calibrate`` makes of networks on tables, without data: a Markdown table.

usage: python -m benchmarks.features [--tables NAME...] [--seeds N...]

Networks of two hidden layers are trained on tables that scikit-learn carries, in one of these ways:

============ ===============================================================
outside      each column has mean 0 and deviation 1 before the network
inside       the network subtracts the means and divides by the deviations
batch norm   its first layer is a BatchNormalization
raw          columns are as they are
range        each column lies between 0 and 1 before the network
============ ===============================================================

Each is calibrated by default and measured on the 40 % of the rows that trained nothing. Nothing is chosen by them.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import sklearn.datasets
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from torch import nn

from dfq_deploy import Samples, calibrate
from dfq_deploy.evaluation.compare import compare

TABLES = ("breast_cancer", "wine", "digits")

WAYS = ("outside", "inside", "batch norm", "raw", "range")

HIDDEN, EPOCHS, BATCH = 64, 300, 64

MANY = 2000
"""Rows from which on a tenth of the epochs does."""

MADE = "made"
"""A table of normally distributed features, with more classes than those of scikit-learn."""

REST = 0.4
"""Part of the rows that trains nothing."""


@dataclass(frozen=True)
class Table:
    """Rows as the network reads them, and their classes."""

    training: NDArray[np.float32]
    rest: NDArray[np.float32]
    classes: NDArray[np.int64]
    rest_classes: NDArray[np.int64]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]


class Standardize(nn.Module):
    """Subtracts means and divides by deviations."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: NDArray[np.float32], std: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (N, F)."""
        return (rows - self.mean) / self.std


def table_of(name: str, way: str, seed: int) -> Table:
    """A table of scikit-learn, prepared in one of the ways."""
    rows, classes = _made() if name == MADE else getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    parts = train_test_split(
        rows.astype(np.float32), classes.astype(np.int64), test_size=REST, random_state=seed, stratify=classes
    )
    training, rest, own, others = parts
    mean, std = training.mean(axis=0), training.std(axis=0) + np.float32(1e-6)
    if way == "outside":
        training, rest = (training - mean) / std, (rest - mean) / std
    if way == "range":
        low, span = training.min(axis=0), np.ptp(training, axis=0) + np.float32(1e-6)
        training, rest = (training - low) / span, (rest - low) / span
    return Table(training, rest, own, others, mean, std)


def _made() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """4,000 rows of 80 features and 16 classes, which overlap: scikit-learn's ``make_classification``."""
    rows, classes = sklearn.datasets.make_classification(
        4000, 80, n_informative=20, n_redundant=30, n_classes=16, class_sep=2.0, random_state=0
    )
    return rows, classes


def trained(table: Table, way: str, seed: int) -> nn.Module:
    """A network of two hidden layers."""
    torch.manual_seed(seed)
    features, classes = table.training.shape[1], int(table.classes.max()) + 1
    layers: list[nn.Module] = [
        nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)
    ]  # fmt: skip
    if way == "inside":
        layers.insert(0, Standardize(table.mean, table.std))
    if way == "batch norm":
        layers.insert(0, nn.BatchNorm1d(features))
    return fitted_to(table, nn.Sequential(*layers))


def fitted_to(table: Table, network: nn.Module) -> nn.Module:
    """Train ``network`` on the rows of a table."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    rows, wanted = torch.tensor(table.training), torch.tensor(table.classes)
    for _ in range(EPOCHS if len(rows) < MANY else EPOCHS // 10):
        order = torch.randperm(len(rows))
        for chosen in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
            if len(chosen) > 1:  # a BatchNormalization needs two
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(network(rows[chosen]), wanted[chosen])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return network.eval()


def results(name: str, way: str, seeds: list[int]) -> Iterator[tuple[float, float, float, str]]:
    """Float's top-1, the quantized file's, their agreement in percent, and what the verdict says of the inputs."""
    for seed in seeds:
        table = table_of(name, way, seed)
        network = trained(table, way, seed)
        with TemporaryDirectory() as folder:
            path, out = Path(folder) / "float.onnx", Path(folder) / "out"
            axes = {"x": {0: "n"}, "y": {0: "n"}}
            example = (torch.tensor(table.rest[:1]),)
            torch.onnx.export(
                network, example, path, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
            )
            calibrate(path, synth="procedural", seed=seed, output=out)
            findings = json.loads((out / "report.json").read_text())["verdict"]["findings"]
            scores = compare(path, out / "model.qdq.onnx", Samples(table.rest, table.rest_classes)).scores
        assert scores is not None
        assert scores.float_top1 is not None
        assert scores.quantized_top1 is not None
        levels = [finding["level"] for finding in findings if finding["code"] == "inputs-guessed"]
        yield scores.float_top1, scores.quantized_top1, scores.agreement, levels[0] if levels else "-"


def main() -> None:
    """Print a row for each table and way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=TABLES)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    print("| table | standardized | float top-1 | INT8 top-1 | agreement by seed | `inputs-guessed` |")
    print("|---|---|---:|---:|---|---|")
    for name in args.tables:
        for way in WAYS:
            floats, quantized, agreements, levels = zip(*results(name, way, args.seeds), strict=True)
            shown = ", ".join(f"{agreement:.1f}" for agreement in agreements)
            said = " ".join(dict.fromkeys(levels))
            print(
                f"| {name} | {way} | {np.mean(floats):.1f} | {np.mean(quantized):.1f} | {shown} | {said} |", flush=True
            )


if __name__ == "__main__":
    main()
