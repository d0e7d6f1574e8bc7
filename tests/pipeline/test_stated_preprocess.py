"""``evaluate`` takes the preprocess that the quantized file states, and says where another one is given."""

from pathlib import Path

import onnx
import pytest

import dfq_deploy
from dfq_deploy.errors import ModelError
from dfq_deploy.samples.preprocess import PREPROCESS, Preprocess
from examples.digits import data


@pytest.fixture
def stating(digits_folded: Path, tmp_path: Path) -> Path:
    """The float file with the digits' preprocess in its metadata."""
    return _with(digits_folded, tmp_path / "stating.onnx", '{"mean": [0.305], "std": [0.319]}')


def _with(source: Path, path: Path, text: str) -> Path:
    model = onnx.load(source)
    model.metadata_props.add(key=PREPROCESS, value=text)
    onnx.save(model, path)
    return path


def test_the_stated_one_is_used_and_said(digits_folded: Path, stating: Path) -> None:
    found = dfq_deploy.evaluate(digits_folded, stating, count=16)
    assert "no --preprocess is given, so that of the quantized file is used: mean 0.305, std 0.319" in found.warnings
    same = dfq_deploy.evaluate(digits_folded, stating, count=16, preprocess=data.PREPROCESS)
    assert found.comparison.to_json() == same.comparison.to_json()
    assert "preprocess-stated" not in {finding.code for finding in same.verdict.findings}


def test_another_one_is_said(digits_folded: Path, stating: Path) -> None:
    found = dfq_deploy.evaluate(digits_folded, stating, count=16, preprocess="zero-one")
    (finding,) = [entry for entry in found.verdict.findings if entry.code == "preprocess-stated"]
    assert finding.level == "BAD"
    assert found.verdict.reason == finding.message
    assert found.verdict.command == f"dfq-deploy evaluate {digits_folded} {stating}"
    assert "(mean 0.305, std 0.319) than the one given (mean 0, std 1)" in finding.message


@pytest.mark.parametrize("text", ["", "[]", '{"mean": [0.5]}', '{"mean": "a", "std": "b"}', "[" * 5000])
def test_other_metadata_is_refused_in_one_line(digits_folded: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelError, match=r"dfq_deploy.preprocess.* cannot be read .*; remove that entry"):
        dfq_deploy.evaluate(digits_folded, _with(digits_folded, tmp_path / "odd.onnx", text), count=16)


def test_a_preprocess_for_people() -> None:
    assert str(Preprocess((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))) == (
        "mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225"
    )
