"""JSON has no NaN and no infinity."""

import json

from dfq_deploy.files.json_text import json_text


def test_what_is_no_number_becomes_null() -> None:
    document = {"a": float("nan"), "b": [float("-inf"), 1.5, {"c": (float("inf"), "inf", 2)}], "d": True}
    assert json.loads(json_text(document)) == {"a": None, "b": [None, 1.5, {"c": [None, "inf", 2]}], "d": True}
