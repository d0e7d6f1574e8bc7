"""Both files: JSON as given, and the page with its pictures."""

import base64
import json
from pathlib import Path

import pytest

from dfq_deploy.errors import OutputError
from dfq_deploy.report.writing import write_report
from tests.report.reports import full


def test_the_files_hold_the_report_and_the_pictures(tmp_path: Path) -> None:
    report = full()
    json_path, html_path = write_report(report, tmp_path, [b"first", b"second"])
    assert json.loads(json_path.read_text()) == report
    encoded = [part.split('"')[0] for part in html_path.read_text().split("data:image/webp;base64,")[1:]]
    assert [base64.b64decode(part) for part in encoded] == [b"first", b"second"]


def test_nan_becomes_null(tmp_path: Path) -> None:
    path, page = write_report({"comparison": {"kl_nats": float("nan")}}, tmp_path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"comparison": {"kl_nats": None}}
    assert page.is_file()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        write_report(full(), tmp_path / "out")
