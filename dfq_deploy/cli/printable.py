"""Escape control characters, so that a name in a file cannot move the cursor or change colors."""

import re

__all__ = ["printable", "printable_json"]

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, line separators, marks of writing direction, and lone surrogates, which
stand for the bytes of a file name that is not UTF-8."""


def printable(text: str) -> str:
    """``text`` with control characters written as ``\\xNN`` or ``\\uNNNN``."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def printable_json(text: str) -> str:
    """A JSON document with control characters written as ``\\uNNNN``, which means the same to a parser."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
