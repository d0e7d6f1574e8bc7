"""Write JSON that every parser reads, and parse JSON from anywhere."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["json_text", "parsed_json"]


def json_text(document: Mapping[str, Any]) -> str:
    """Format ``document`` as JSON, indented by two; NaN and infinity, which JSON does not have, become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False, ensure_ascii=False)


def parsed_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is none, or is nested too deeply for the parser.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(each) for each in value]
    return value
