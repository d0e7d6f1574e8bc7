"""Reports in headless Chromium, wide and narrow, light and dark; needs Chromium, and npm install in browser/."""

import json
import subprocess
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from dfq_deploy import Samples, calibrate
from dfq_deploy.report.page import LARGEST, SECTIONS
from dfq_deploy.report.writing import write_report
from dfq_deploy.samples.preprocess import PREPROCESSES
from examples.digits.data import PREPROCESS
from examples.web.headless import browser
from tests.report.reports import HOSTILE, full, layer

BROWSER = Path(__file__).parent / "browser"

Look: TypeAlias = dict[str, Any]
"""What one page was like at one width in one color scheme."""


@pytest.fixture(scope="module")
def pages(checkout: Path, squares: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of each report: a classifier, a detector, a transformer, a bad file, and one made up of hostile names."""
    if not browser() or not (BROWSER / "node_modules/axe-core").is_dir():
        pytest.skip("Chromium, or npm install in tests/report/browser, is missing")
    folder = tmp_path_factory.mktemp("reports")
    plain = {"refine": "none", "synth": "procedural", "count": 16}
    digits = checkout / "examples/digits/digits.onnx"
    calibrate(digits, preprocess=PREPROCESS, output=folder / "classifier", **plain)  # type: ignore[arg-type]
    calibrate(squares, preprocess=PREPROCESSES["zero-one"], output=folder / "detector", **plain)  # type: ignore[arg-type]
    transformer = checkout / "examples/digits_vit/digits_vit.onnx"
    other = folder / "classifier"
    calibrate(transformer, compare=other, output=folder / "transformer", **plain)  # type: ignore[arg-type]
    calibrate(digits, data=Samples(np.zeros((16, 1, 16, 16), np.float32)), preprocess=PREPROCESS, output=folder / "bad")
    hostile = full()
    hostile["noise"]["layers"] = [layer(index, HOSTILE + "x" * 500, explained=index < 5) for index in range(12)]
    hostile["model"]["name"] = hostile["verdict"]["reason"] = hostile["run"]["command"] = HOSTILE + "y" * 500
    (folder / "hostile").mkdir()
    write_report(hostile, folder / "hostile")
    return {path.name: path for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def looks(pages: dict[str, Path]) -> list[Look]:
    files = [str(path / "report.html") for path in pages.values()]
    command = ["node", str(BROWSER / "look.mjs"), browser(), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[Look] = json.loads(done.stdout)
    assert len(found) == 4 * len(pages)
    return found


def test_nothing_is_asked_for_and_nothing_fails(looks: list[Look]) -> None:
    for look in looks:
        assert (look["errors"], look["requests"], look["broken"]) == ([], [], 0), look["file"]


def test_it_is_accessible(looks: list[Look]) -> None:
    for look in looks:
        assert look["faults"] == [], (look["file"], look["width"], look["scheme"])


def test_it_fits_its_window(looks: list[Look]) -> None:
    for look in looks:
        assert look["overflow"] <= 0, (look["file"], look["width"])


def test_every_section_is_there(looks: list[Look]) -> None:
    for look in looks:
        assert look["sections"] == [name for name, _ in SECTIONS], look["file"]


def test_figures_are_those_of_report_json(looks: list[Look]) -> None:
    for look in looks:
        report = json.loads(Path(look["file"]).with_name("report.json").read_text(encoding="utf-8"))
        assert len(look["figures"]) > 30, look["file"]
        for path, shown in look["figures"].items():
            value: Any = report
            for key in path.split("."):
                value = value[int(key) if isinstance(value, list) else key]
            assert (value is None and not shown) or str(value) == shown or float(shown) == value, path


def test_tables_sort_and_terms_explain_themselves(looks: list[Look]) -> None:
    for look in looks:
        use = look["use"]
        if use is not None:
            assert use["up"] == sorted(use["up"])
            assert use["down"] == sorted(use["up"], reverse=True)
            assert use["tip"] == use["meaning"]


def test_they_are_small(pages: dict[str, Path]) -> None:
    for path in pages.values():
        assert (path / "report.html").stat().st_size < LARGEST / 2


def test_each_is_what_it_stands_for(pages: dict[str, Path]) -> None:
    reports = {name: json.loads((path / "report.json").read_text()) for name, path in pages.items()}
    assert reports["bad"]["verdict"]["status"] == "BAD"
    assert "detector" in reports["detector"]["comparison"]
    assert reports["transformer"]["compared"]["settings"]
    assert all(entry["float"]["class"] is not None for entry in reports["classifier"]["answers"])
    assert all(entry["float"]["confidence"] is not None for entry in reports["detector"]["answers"])
