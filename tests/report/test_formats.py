"""Words and numbers of the report."""

from typing import Any

import pytest

from dfq_deploy.report.formats import FORMATS, breakable, in_words, prose, shortened


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        ({}, "INT8"),
        ({"bits": "w8a8"}, "INT8"),
        ({"bits": "w4a4, first and last layer 8"}, "W4A4"),
        ({"bits": "w8a8, 2 layers of their own", "layers": {"a": 4}}, "mixed widths"),
    ],
)
def test_widths_in_words(calibration: dict[str, Any], words: str) -> None:
    assert in_words(calibration) == words


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        ("number", -0.123456, "\N{MINUS SIGN}0.1235"),
        ("number", None, ""),
        ("size", 640, "640 bytes"),
        ("size", 12_345, "12.3 kB"),
        ("size", 123_456, "123 kB"),
        ("size", 1_234_567, "1.23 MB"),
        ("decibel", None, "exact"),
        ("decibel", -3.25, "\N{MINUS SIGN}3.2 dB"),
        ("share", 0.0, "0"),
        ("share", 0.00001, "< 0.01 %"),
        ("share", 0.0123, "1.23 %"),
        ("share", 0.5, "50 %"),
        ("duration", 12.34, "12.3 s"),
        ("duration", 99.6, "1 min 40 s"),
        ("duration", 7260, "2 h 1 min"),
        ("scale", [0.5, 0.001], "0.001 to 0.5"),
        ("confidence", 0.987, "99 %"),
    ],
)
def test_numbers(form: str, value: Any, shown: str) -> None:
    assert FORMATS[form](value) == shown


def test_long_names_lose_their_middle() -> None:
    assert shortened("a" * 50 + "b" * 50, 11) == "aaaaa\N{HORIZONTAL ELLIPSIS}bbbbb"
    assert shortened("short", 11) == "short"


def test_names_break_behind_their_separators() -> None:
    assert breakable("/layer1/conv_2<b>") == "/<wbr>layer1/<wbr>conv_<wbr>2&lt;b&gt;"


def test_sentences_begin_with_a_capital_and_commands_stay_as_they_are() -> None:
    assert prose("use --keep-float 'a_b'.") == 'Use <code class="option">--keep-float</code> &#39;a_<wbr>b&#39;.'
    assert prose("dfq-deploy check <x>") == "<code>dfq-deploy check &lt;x&gt;</code>"
    assert prose("") == ""
