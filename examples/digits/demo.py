"""The main job on the example: INT8 without data, measured on digits that nothing here has learned from.

``python -m examples.digits.demo`` takes well under a minute on two cores.
"""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_static
from rich.console import Console
from rich.table import Table

from dfq_deploy import Samples, calibrate
from dfq_deploy.evaluate import evaluate
from examples.digits import data

__all__ = ["Row", "main", "measure"]

HERE = Path(__file__).parent
MODEL = HERE / "digits_bn.onnx"
FOLDED = HERE / "digits.onnx"
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


def measure(output: Path, seed: int = 0) -> list[Row]:
    """Quantize in three ways and score each: without data, with noise, and with noise by other tools' means.

    Args:
        output: folder for all files; the result of the main job itself goes there under its usual names.
        seed: of the synthesis and of the noise.
    """
    # The main job: no digit is read here.
    synthesized = calibrate(MODEL, synth="deepinversion", preprocess=data.PREPROCESS, seed=seed, output=output)

    # What other tools do without data: ranges from one batch of uniform noise, smallest and largest value.
    noise = np.random.default_rng(seed).random((NOISE_BATCH, 1, *data.SIZE), dtype=np.float32)
    ours = calibrate(MODEL, data=Samples(noise), method="minmax", refine=(), output=output / "noise")
    theirs = output / "noise" / "onnxruntime.onnx"
    logging.getLogger().setLevel(logging.ERROR)  # quantize_static advises a pre-processing step that is not needed here
    quantize_static(FOLDED, theirs, _OneBatch(noise), per_channel=True, weight_type=QuantType.QInt8)

    if synthesized.model_path is None or ours.model_path is None:
        raise RuntimeError("calibrate was given a folder and wrote no model")
    return [
        _scored("float", MODEL),
        _scored("INT8, synthesized images", synthesized.model_path),
        _scored("INT8, one batch of noise", ours.model_path),
        _scored("INT8, one batch of noise, ONNX Runtime's quantize_static", theirs),
    ]


def main() -> None:
    """Measure, and print the table and where the files are."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-out"), help="folder for the results")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    console = Console()
    console.print(f"Quantizing {MODEL.name} without any data ...")
    rows = measure(arguments.output, arguments.seed)
    table = Table(title=f"{data.HELD_OUT} real digits, never used before")
    table.add_column("model and calibration")
    table.add_column("top-1 %", justify="right")
    table.add_column("same answer as float %", justify="right")
    for row in rows:
        table.add_row(row.calibration, f"{row.top1:.1f}", f"{row.agreement:.1f}")
    console.print(table)
    for path in sorted(file for file in arguments.output.iterdir() if file.is_file()):
        console.print(path, soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
