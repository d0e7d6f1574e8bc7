"""What was predicted when a file was quantized, from the report beside it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfq_deploy.errors import OptionError
from dfq_deploy.graph.file_info import stored_bytes
from dfq_deploy.pipeline.reporting import REPORT_FILE, read_report
from dfq_deploy.report.run import file_digest

__all__ = ["EarlierPrediction", "earlier_prediction"]


@dataclass(frozen=True)
class EarlierPrediction:
    """Agreement on real inputs that ``calibrate`` or ``finetune`` predicted for a file, in percent.

    Args:
        value, low, high: the prediction and its 95 % interval.
    """

    value: float
    low: float
    high: float

    def against(self, measured: float) -> str:
        """The prediction, and where the agreement that was ``measured`` lies."""
        low, high, found = (round(percent, 1) for percent in (self.low, self.high, measured))
        where = "below" if found < low else "above" if found > high else "within"
        return f"{self.value:.1f} % ({self.low:.1f} to {self.high:.1f}) when it was quantized: measured {where} that"

    def to_json(self) -> dict[str, float]:
        """A plain mapping."""
        return asdict(self)


def earlier_prediction(float_model: Path, quantized_model: Path) -> EarlierPrediction | None:
    """The prediction in the report.json beside ``quantized_model``; None where none of these two files lies there.

    A report belongs to them where it names the file, its size, and the hash of the float model.
    """
    beside = quantized_model.parent / REPORT_FILE
    if not beside.is_file():
        return None
    try:
        report = read_report(beside)
    except OptionError:  # another program's report.json
        return None
    quantized, run = (_mapping(report, key) for key in ("quantized", "run"))
    if (quantized.get("name"), quantized.get("file_bytes")) != (quantized_model.name, stored_bytes(quantized_model)):
        return None
    if run.get("model_sha256") != file_digest(float_model):
        return None
    predicted = _mapping(_mapping(report, "agreement"), "predicted")
    figures = [predicted.get(key) for key in ("value", "low", "high")]
    if predicted.get("kind") == "data" or not all(isinstance(figure, float | int) for figure in figures):
        return None
    return EarlierPrediction(*(float(figure) for figure in figures if figure is not None))


def _mapping(report: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = report.get(key)
    return found if isinstance(found, dict) else {}
