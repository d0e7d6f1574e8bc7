"""The main job on the example: INT8 without data, measured on digits that nothing here has learned from.

``python -m examples.digits.demo`` takes well under a minute on two cores.
"""

import argparse
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_static
from rich.console import Console
from rich.table import Table

from dfq_deploy import Samples, calibrate, evaluate
from dfq_deploy.cli.main import main as dfq_deploy
from examples.digits import data

__all__ = ["Row", "command", "main", "measure", "quantize_on_noise"]

MODEL = Path(__file__).with_name("digits_bn.onnx")
FOLDED = Path(__file__).with_name("digits.onnx")
NOISE_BATCH = 32


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        calibration: what the ranges were measured on, and how.
        top1: percent of the held-out digits that the model gets right.
        agreement: percent on which it says what the float model says.
    """

    calibration: str
    top1: float
    agreement: float


class _OneBatch:
    """Hands ONNX Runtime's calibrator a single batch (a CalibrationDataReader to it: it looks for ``get_next``)."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self.batches: Iterator[dict[str, NDArray[np.float32]]] = iter([{"image": images}])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The batch, then nothing."""
        return next(self.batches, None)


def _scored(calibration: str, path: Path) -> Row:
    """Top-1 of the file on the held-out digits, and its agreement with the float model."""
    pictures = data.held_out()
    truth = Samples(data.PREPROCESS.apply(pictures.images), pictures.labels)
    scores = evaluate(MODEL, path, truth).comparison.scores
    if scores is None or scores.quantized_top1 is None:
        raise RuntimeError(f"{path} gives no class scores")
    return Row(calibration, scores.quantized_top1, scores.agreement)


def command(output: Path, seed: int = 0) -> list[str]:
    """The arguments of ``dfq-deploy`` that do the main job."""
    mean, std = (str(values[0]) for values in (data.PREPROCESS.mean, data.PREPROCESS.std))
    return [
        "calibrate", os.path.relpath(MODEL), "--synth", "deepinversion", "--mean", mean, "--std", std,
        "--seed", str(seed), "-o", str(output),
    ]  # fmt: skip


def quantize_on_noise(output: Path, seed: int = 0) -> tuple[Path, Path]:
    """What other tools do without data: ranges from one batch of uniform noise, smallest and largest value.

    Returns:
        what our exporter wrote with those ranges, and what ONNX Runtime's ``quantize_static`` wrote.
    """
    noise = np.random.default_rng(seed).random((NOISE_BATCH, 1, *data.SIZE), dtype=np.float32)
    ours = calibrate(MODEL, data=Samples(noise), method="minmax", refine=(), output=output)
    if ours.model_path is None:
        raise RuntimeError(f"calibrate wrote no model into {output}")
    theirs = output / "onnxruntime.onnx"
    logging.getLogger().setLevel(logging.ERROR)  # quantize_static advises a pre-processing step that is not needed here
    quantize_static(FOLDED, theirs, _OneBatch(noise), per_channel=True, weight_type=QuantType.QInt8)
    return ours.model_path, theirs


def measure(output: Path, seed: int = 0) -> list[Row]:
    """Score what :func:`command` left in ``output`` against float, and against noise, which is calibrated with here."""
    ours, theirs = quantize_on_noise(output / "noise", seed)
    return [
        _scored("float", MODEL),
        _scored("INT8, synthesized images", output / "model.qdq.onnx"),
        _scored("INT8, one batch of uniform noise", ours),
        _scored("INT8, the same noise, quantize_static of ONNX Runtime", theirs),
    ]


def main() -> None:
    """Do the main job, measure, and print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-out"), help="folder for the results")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = Console(width=100)
    arguments_of_job = command(arguments.output, arguments.seed)
    console.print("$ dfq-deploy", *arguments_of_job, soft_wrap=True, highlight=False)
    dfq_deploy(arguments_of_job, standalone_mode=False)
    table = Table(title=f"\non {data.HELD_OUT} real digits that nothing above has seen")
    table.add_column("model, and what it was calibrated with")
    table.add_column("top-1 %", justify="right")
    table.add_column("agrees with float %", justify="right")
    for row in measure(arguments.output, arguments.seed):
        table.add_row(row.calibration, f"{row.top1:.1f}", f"{row.agreement:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
