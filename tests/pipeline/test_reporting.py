"""Reading the report of another run: whatever else is given is refused in one line."""

import json
from pathlib import Path

import pytest

from dfq_deploy.errors import OptionError
from dfq_deploy.pipeline.reporting import read_report


def test_a_report_or_its_folder(tmp_path: Path) -> None:
    report = {"schema_version": 1, "comparison": {}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == report


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file or directory; give the folder or the report.json that another calibrate wrote"),
        ("<html>", "it is no JSON; give the folder or the report.json"),
        ("[]", "no report of calibrate or finetune; give the report.json that one wrote"),
        ('{"schema_version": 1}', "no report of calibrate or finetune"),
    ],
)
def test_what_is_no_report(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "other.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(OptionError) as problem:
        read_report(file)
    assert str(problem.value).startswith(f"compare: {file}: {said}")
