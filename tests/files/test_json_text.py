"""JSON has no NaN and no infinity; what is none is refused, however deep."""

import json

import pytest

from dfq_deploy.files.json_text import json_text, parsed_json


def test_what_is_no_number_becomes_null() -> None:
    document = {"a": float("nan"), "b": [float("-inf"), 1.5, {"c": (float("inf"), "inf", 2)}], "d": True}
    assert json.loads(json_text(document)) == {"a": None, "b": [None, 1.5, {"c": [None, "inf", 2]}], "d": True}


@pytest.mark.parametrize("text", ["", "[1,", "[" * 200_000, "\x00"])
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"[a-z]"):
        parsed_json(text)


def test_json_is_parsed() -> None:
    assert parsed_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
