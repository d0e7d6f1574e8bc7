"""The sections of the report, and their JSON."""

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from dfq_deploy.encodings import Encoding, QuantType, Range
from dfq_deploy.evaluation.compare import Comparison
from dfq_deploy.evaluation.tensors import TensorDistance
from dfq_deploy.report.model import (
    CalibrationSection,
    FloatNode,
    ModelSection,
    QuantizedSection,
    Report,
    SamplesSection,
    TargetSection,
    TensorRow,
    plain,
)
from dfq_deploy.samples.preprocess import Preprocess

BYTES = QuantType(8, signed=True, symmetric=True)


def report(**further: Any) -> Report:
    weight = Encoding.of_bounds(np.array([-1.0, -2.54]), np.array([1.27, 1.0]), BYTES, 0)
    activation = Encoding.of_range(Range(-1.27, 1.0), BYTES)
    return Report(
        version="1.2",
        model=ModelSection("net.onnx", 2000, 400),
        quantized=QuantizedSection("model.qdq.onnx", 600),
        target=TargetSection("cpu", "ONNX Runtime"),
        samples=SamplesSection("noise", 16, 2, 5, Preprocess((0.5,), (0.25,)), {"spread": np.float32(0.5)}),  # type: ignore[dict-item]
        calibration=CalibrationSection.of(
            {"method": "mse", "refine": ["bias"], "headroom": 1.2, "bits": "w8a8", "known_ranges": 3}
        ),
        comparison=Comparison(2, (), None),
        tensors=(
            TensorRow.of("x", "activation", activation, TensorDistance("x", float("inf"), 0.25)),
            TensorRow.of("w", "weight", weight),
        ),
        left_float=(FloatNode("conv", "Conv", "its weight is computed"),),
        **further,
    )


def test_the_json_of_all_sections() -> None:
    found = json.loads(json.dumps(report(seconds={"export": 0.5}).to_json(), allow_nan=False))
    low, scales = found["tensors"][0].pop("low"), found["tensors"][1].pop("scale")
    assert abs(low + 1.27) < 1e-6
    np.testing.assert_allclose(scales, [0.01, 0.02], rtol=1e-6)
    for row in found["tensors"]:
        row.pop("high"), row.pop("low", 0), row.pop("scale", 0)
    assert found == {
        "schema_version": 1,
        "version": "1.2",
        "model": {"name": "net.onnx", "file_bytes": 2000, "parameters": 400, "bytes_by_type": {}},
        "quantized": {"name": "model.qdq.onnx", "file_bytes": 600, "bytes_by_type": {}},
        "target": {"name": "cpu", "runtime": "ONNX Runtime"},
        "samples": {
            "method": "noise",
            "count": 16,
            "held_out": 2,
            "seed": 5,
            "preprocess": {"mean": [0.5], "std": [0.25]},
            "figures": {"spread": 0.5},
            "shape": [],
            "size_chosen": False,
        },
        "calibration": {"method": "mse", "bits": "w8a8", "refine": ["bias"], "headroom": 1.2, "known_ranges": 3},
        "comparison": {"samples": 2, "outputs": []},
        "tensors": [
            {"name": "x", "kind": "activation", "type": "s8", "snr_db": None, "clipped": 0.25},
            {"name": "w", "kind": "weight", "type": "s8"},
        ],
        "left_float": [{"name": "conv", "operator": "Conv", "reason": "its weight is computed"}],
        "notes": [],
        "warnings": [],
        "seconds": {"export": 0.5},
    }


def test_a_mapping_of_what_the_file_holds() -> None:
    made = report()
    assert made == made.to_json()
    assert {**made}["model"]["name"] == made.get("model", {})["name"] == made.model.name
    assert "integer_io" not in made
    assert list(made)[0] == "schema_version"  # noqa: RUF015 - the order is meant
    assert len(made) == len(made.to_json())


@dataclass(frozen=True)
class Weather:
    """A section of another package."""

    wind: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {"wind": list(self.wind)}


@dataclass(frozen=True, eq=False)
class Longer(Report):
    weather: Weather | None = None


def test_a_section_more_is_a_field_more() -> None:
    made = Longer(**{entry.name: getattr(report(), entry.name) for entry in fields(Report)}, weather=Weather((1.5,)))
    assert made["weather"] == {"wind": [1.5]}
    assert plain(Weather((2.0,))) == {"wind": [2.0]}


def test_the_documents_name_every_section(checkout: Path) -> None:
    text = (checkout / "docs/formats.md").read_text(encoding="utf-8")
    section = text.split("## report.json")[1].split("## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == {entry.name for entry in fields(Report)}
