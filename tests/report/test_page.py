"""The page: it stands alone, shows every figure of the report, and stays small and harmless."""

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from dfq_deploy.report.page import LARGEST, SECTIONS, page
from tests.report.reports import HOSTILE, KEPT, full, layer, remedies

VOID = {"meta", "img", "br", "wbr", "rect", "line", "path", "circle"}


class Reader(HTMLParser):
    """Collects text, places and figures, and refuses unbalanced tags and anything from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[str] = []
        self.places: list[str] = []
        self.links: list[str] = []
        self.figures: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        assert str(given.get("src") or "data:").startswith("data:"), given
        assert str(given.get("href") or "#").startswith("#"), given
        if "data-figure" in given:
            self.figures[str(given["data-figure"])] = str(given["value"])
        self.places += [str(given["id"])] if "id" in given else []
        self.links += [str(given["href"])] if "href" in given else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open[-1:]) and data.strip():
            self.text.append(" ".join(data.split()))


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert len(reader.places) == len(set(reader.places))
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.places)
    return reader


def figure_of(report: Any, path: str) -> Any:
    for key in path.split("."):
        report = report[int(key) if isinstance(report, list) else key]
    return report


def test_a_file_that_grew_is_called_larger() -> None:
    grown = full()
    grown["quantized"]["file_bytes"] = 5_000_000
    assert "larger: 2.00 MB to 5.00 MB 2.50" in " ".join(read(page(grown)).text)


def test_the_page_says_it_all() -> None:
    text = " ".join(read(page(full(), [b"picture"])).text)
    for words in (
        "CHECK: <net>.onnx in INT8",
        "Quantized for ONNX Runtime",
        "Outputs differ.",
        "dfq-deploy evaluate net.onnx model.qdq.onnx",
        "98.4 %",
        "31.2 dB",
        "99.2 %",
        "4.00\N{MULTIPLICATION SIGN}",
        "smaller: 2.00 MB to 500 kB",
        "2 min 0 s",
        "Mind <this>.",
        "Fixed to <that>.",
        "'x' is clipped.",
        "--method minmax",
        "a tick is 4 integers",
        "1 of them are",
        "2 of 65",
        "differs",
        "statistics distance",
        "mean 0.5; std 0.25",
        "a<b",
        "1.50 %",
        "8.0 dB",
        "exact",
        "0.001 to 0.5",
        "its weight is computed",
        "the INT8 model",
        "ab" * 32,
        "This run was compared with no other one.",
    ):
        assert words in text, words


def test_every_figure_is_that_of_the_report() -> None:
    report = full()
    found = read(page(report)).figures
    assert len(found) > 40
    for path, shown in found.items():
        value = figure_of(report, path)
        assert shown == ("" if value is None else str(value)), path
    assert {"comparison.agreement", "noise.layers.0.own_snr_db", "answers.0.quantized.class"} <= set(found)


@pytest.mark.parametrize("report", [{}, {"schema_version": 1, "comparison": {}}, full()], ids=["none", "bare", "full"])
def test_every_section_is_there_whatever_the_report_has(report: dict[str, Any]) -> None:
    reader = read(page(report))
    places = [place for place in reader.places if place in {name for name, _ in SECTIONS}]
    assert places == [name for name, _ in SECTIONS]


def test_each_term_is_a_link_once() -> None:
    reader = read(page(full()))
    terms = [link for link in reader.links if link.startswith("#term-")]
    assert len(terms) == len(set(terms)) > 10


def test_hostile_names_are_text() -> None:
    long = HOSTILE + "n" * 20_000
    report = full()
    report["noise"]["layers"] = [layer(0, HOSTILE, explained=True), layer(1, long)]
    report["model"]["name"] = report["run"]["command"] = report["verdict"]["reason"] = HOSTILE
    report["tensors"][0]["name"] = report["weights"][0]["name"] = report["left_float"][0]["reason"] = long
    report["warnings"] = [long] * 50
    html = page(report)
    assert html.count("<script>") == 1
    assert "alert(" in html
    assert len(html) < 120_000
    read(html)


def test_a_model_of_ten_thousand_layers_stays_small() -> None:
    names = [f"/backbone/stage{index % 7}/block{index}/" + "long_" * 20 for index in range(10_000)]
    row = full()["tensors"][0]
    report = full(
        tensors=[{**row, "name": name, "kind": kind} for name in names for kind in ("activation", "weight")],
        left_float=[{"name": name, "operator": "Conv", "reason": "its weight is computed"} for name in names],
        weights=[{**full()["weights"][0], "name": name} for name in names],
    )
    report["noise"]["layers"] = [layer(index, name) for index, name in enumerate(names)]
    html = page(report, [bytes(8_000)] * 24)
    assert len(html.encode()) <= LARGEST
    text = " ".join(read(html).text)
    assert "of 10,000, the noisiest first; report.json has all of them." in text
    assert "The chart shows 300 of 10,000 layers" in text


def test_the_page_is_the_same_from_the_file() -> None:
    report = full()
    assert page(json.loads(json.dumps(report))) == page(report)


def test_remedies_are_shown_with_gain_cost_and_outcome() -> None:
    text = " ".join(read(page(full())).text)
    for shown in ("11.0 dB", "18.5 dB", "+7.5", "0.97\N{MULTIPLICATION SIGN}", "+1.20 MB", "4.2 s", "kept"):
        assert shown in text
    for shown in ("it gains nothing", "\N{MINUS SIGN}500 kB", "16 <b> inputs", "it failed: no memory"):
        assert shown in text
    assert "The time for remedies is up (60 s; --max-time)." in text.replace(" ; ", "; ").replace(
        "--max-time )", "--max-time)"
    )


def test_without_a_search_there_are_no_remedies() -> None:
    assert "Remedies that were tried" not in page({})
    assert "Remedies that were tried" not in page({"remedies": remedies(reached=True, stopped="floor")})
    assert "The first result" not in page({"remedies": remedies(KEPT, stopped="unmeasured")})
