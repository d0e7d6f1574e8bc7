"""The report: JSON as given, and a page that stands alone."""

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dfq_deploy.errors import OutputError
from dfq_deploy.report.html import page
from dfq_deploy.report.writing import write_report

REPORT: dict[str, Any] = {
    "version": "1.2",
    "model": {"name": "<net>.onnx", "file_bytes": 2_000_000},
    "quantized": {"name": "model.qdq.onnx", "file_bytes": 500_000},
    "target": {"name": "cpu", "runtime": "ONNX Runtime"},
    "samples": {
        "method": "noise",
        "count": 65,
        "seed": 5,
        "preprocess": {"mean": [0.5], "std": [0.25]},
        "figures": {"statistics_distance": 0.25},
    },
    "calibration": {"method": "mse", "refine": ["bias"]},
    "comparison": {"samples": 8, "agreement": 98.44, "kl_nats": 0.01, "outputs": [{"name": "y", "snr_db": 31.25}]},
    "tensors": [
        {"name": "a<b", "type": "u8", "low": -1.0, "high": 2.0, "scale": 0.1, "clipped": 0.015, "snr_db": 8},
        {"name": "c", "type": "u8", "low": 0.0, "high": 2.0, "scale": 0.1, "clipped": 0.0, "snr_db": None},
        {"name": "w", "kind": "weight", "type": "s8", "low": -1.0, "high": 1.0, "scale": [0.001, 0.5]},
    ],
    "left_float": [{"name": "conv_7", "operator": "Conv", "reason": "its weight is computed"}],
    "files": {"model.qdq.onnx": "the INT8 model"},
    "warnings": ["mind <this>"],
    "notes": ["fixed to <that>"],
    "seconds": {"synthesis": 90.0, "calibration": 30.0},
}  # fmt: skip


class Reader(HTMLParser):
    """Collects text, and refuses unbalanced tags and anything from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "rect"):
            self.open.append(tag)
        for name, value in attrs:
            assert name not in ("src", "href") or str(value).startswith("data:"), (tag, name, value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "rect"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"] and data.strip():
            self.text.append(data.strip())


def read(html: str) -> list[str]:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader.text


def test_the_page_says_it_all() -> None:
    text = read(page(REPORT, "iVBORw0KGgo="))
    assert text[:2] == ["<net>.onnx in INT8", "<net>.onnx in INT8"]
    for words in (
        "Quantized for ONNX Runtime, with noise samples by dfq-deploy 1.2.",
        "98.4 %",
        "65 samples, of which the first 64 are shown. The ranges below were measured on them.",
        "same class as float, on 8 held-out samples",
        "31.2 dB",
        "4.0\N{MULTIPLICATION SIGN}",
        "smaller: 2.00 MB to 500 kB",
        "2.0 min",
        "mind <this>",
        "Note: fixed to <that>.",
        "statistics distance",
        "mean 0.5; std 0.25",
        "a<b",
        "1.50 %",
        "8.0 dB",
        "exact",
        "0.001 to 0.5",
        "its weight is computed",
        "the INT8 model",
    ):
        assert words in text


def test_a_poor_tensor_gets_a_poor_bar() -> None:
    html = page(REPORT)
    assert '<rect class="poor" width="19" height="10" rx="2"/></svg> 8.0 dB' in html
    assert '<rect class="good" width="120" height="10" rx="2"/></svg> exact' in html


def test_a_bare_report_is_a_page_too() -> None:
    assert read(page({})) == ["model in INT8", "model in INT8", "Quantized, with samples."]


def test_the_files_hold_the_report_and_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2), (9, 8, 7)).save(tmp_path / "samples.png")
    json_path, html_path = write_report(REPORT, tmp_path)
    assert json.loads(json_path.read_text()) == REPORT
    html = html_path.read_text()
    read(html)
    encoded = html.split("data:image/png;base64,")[1].split('"')[0]
    assert base64.b64decode(encoded) == (tmp_path / "samples.png").read_bytes()


def test_nan_becomes_null(tmp_path: Path) -> None:
    path, page = write_report({"comparison": {"kl_nats": float("nan")}}, tmp_path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"comparison": {"kl_nats": None}}
    assert page.is_file()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        write_report(REPORT, tmp_path / "out")
