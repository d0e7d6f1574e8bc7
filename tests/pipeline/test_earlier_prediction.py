"""``evaluate`` on real inputs tells what ``calibrate`` had predicted for the same file."""

import json
import shutil
from pathlib import Path

import pytest

from dfq_deploy import Samples, calibrate, evaluate
from dfq_deploy.pipeline.earlier_prediction import EarlierPrediction, earlier_prediction
from examples.digits import data


@pytest.fixture(scope="module")
def written(digits_folded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    calibrate(digits_folded, count=32, preprocess=data.PREPROCESS, floor="none", output=folder)
    return folder / "model.qdq.onnx"


def test_it_is_told_where_real_inputs_measure_it(digits_folded: Path, written: Path, held_out: Samples) -> None:
    report = json.loads((written.parent / "report.json").read_text())
    found = evaluate(digits_folded, written, held_out)
    assert found.earlier is not None
    predicted = report["agreement"]["predicted"]
    assert found.to_json()["predicted_earlier"] == {key: predicted[key] for key in ("value", "low", "high")}
    assert evaluate(digits_folded, written, count=16, preprocess=data.PREPROCESS).earlier is None


def test_the_report_of_other_files_is_none(digits_folded: Path, digits_bn: Path, written: Path, tmp_path: Path) -> None:
    assert earlier_prediction(digits_folded, written) is not None
    assert earlier_prediction(digits_bn, written) is None
    alone = shutil.copy(written, tmp_path)
    assert earlier_prediction(digits_folded, Path(alone)) is None
    (tmp_path / "report.json").write_text('{"of": "another program"}')
    assert earlier_prediction(digits_folded, Path(alone)) is None
    report = json.loads((written.parent / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps({**report, "agreement": None}))
    assert earlier_prediction(digits_folded, Path(alone)) is None
    report["quantized"]["file_bytes"] += 1
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert earlier_prediction(digits_folded, Path(alone)) is None


@pytest.mark.parametrize(("measured", "where"), [(94.9, "below"), (95.0, "within"), (99.04, "within"), (99.9, "above")])
def test_in_words(measured: float, where: str) -> None:
    found = EarlierPrediction(98.04, 95.0, 99.0).against(measured)
    assert found == f"98.0 % (95.0 to 99.0) when it was quantized: measured {where} that"
