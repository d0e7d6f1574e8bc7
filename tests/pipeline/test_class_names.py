"""``labels``: the names of the classes stand in the report."""

from pathlib import Path

import pytest

from dfq_deploy import calibrate
from dfq_deploy.errors import SamplesError
from dfq_deploy.report.page import page
from examples.digits import data

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def _file(folder: Path, names: list[str]) -> Path:
    path = folder / "names.txt"
    path.write_text("\n".join(names))
    return path


def test_answers_have_the_names_of_their_classes(digits_folded: Path, tmp_path: Path) -> None:
    labels = _file(tmp_path, NAMES)
    report = calibrate(digits_folded, count=16, preprocess=data.PREPROCESS, floor="none", labels=labels).report
    said = [answer[model] for answer in report["answers"] for model in ("float", "quantized")]
    assert {NAMES[answer["class"]] for answer in said} == {answer["name"] for answer in said}
    assert all(NAMES[answer["class"]] == answer["name"] for answer in said)
    assert f"{said[0]['class']}</data> {said[0]['name']}</b>" in page(report)


@pytest.mark.parametrize("names", [NAMES[:9], [*NAMES, "ten"]])
def test_other_classes_are_refused_before_any_work(digits_folded: Path, tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(SamplesError, match=rf"^\S*--labels: {len(names)} class names for the 10 classes of the model"):
        calibrate(digits_folded, labels=_file(tmp_path, names), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
