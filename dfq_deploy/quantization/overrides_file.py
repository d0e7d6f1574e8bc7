"""Read an overrides file (TOML)."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dfq_deploy.encodings import Range
from dfq_deploy.errors import OptionError, did_you_mean, first_line
from dfq_deploy.quantization.overrides import Kind, Override

__all__ = ["read_overrides"]

LARGEST = 2**20
"""Bytes of a file, beyond which it is none."""

TYPES = ("u8", "s8", "u16")

KEYS: Mapping[Kind, tuple[str, ...]] = {
    "tensor": ("match", "type", "bits", "symmetric", "range", "float"),
    "node": ("match", "type", "bits", "symmetric", "float"),
}


def read_overrides(path: Path) -> tuple[Override, ...]:
    """The entries of an overrides file, whose form docs/overrides.md has: ``[[node]]`` first, then ``[[tensor]]``.

    Raises:
        OptionError: it cannot be read, or an entry has a key or a value that it cannot have.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise OptionError(f"{path}: {path.stat().st_size} bytes are no overrides file; docs/overrides.md shows one")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise OptionError(f"{path}: cannot be read ({problem.strerror}); give an overrides file") from None
    except (ValueError, RecursionError) as problem:  # TOML's errors and those of UTF-8
        raise OptionError(f"{path}: not a TOML file ({first_line(problem)}); docs/overrides.md shows one") from None
    for name in content:
        if name not in KEYS:
            way_out = did_you_mean(name, KEYS, "entries begin with")
            raise OptionError(f"{path}: unknown '{name}'{way_out}; write [[node]] or [[tensor]]")
    kinds: tuple[Kind, ...] = ("node", "tensor")
    return tuple(
        _entry(kind, table, f"{path}: [[{kind}]] {number}")
        for kind in kinds
        for number, table in enumerate(_tables(content.get(kind, []), kind, path), 1)
    )


def _tables(found: Any, kind: Kind, path: Path) -> list[Mapping[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise OptionError(f"{path}: '{kind}' is no list of entries; begin each with [[{kind}]]")
    return found


def _entry(kind: Kind, table: Mapping[str, Any], place: str) -> Override:
    for key in table:
        if key not in KEYS[kind]:
            way_out = "; a range belongs in a [[tensor]]" if key == "range" else ""
            raise OptionError(f"{place}: unknown key '{key}'{way_out or did_you_mean(key, KEYS[kind], 'it has')}")
    match = table.get("match")
    if not isinstance(match, str) or not match:
        raise OptionError(f'{place}: match = {match!r} is no name; give match = "NAME", or a pattern such as "conv*"')
    if len(table) == 1:
        raise OptionError(
            f"{place}: '{match}' is matched and nothing asked for; give one of {', '.join(KEYS[kind][1:])}"
        )
    is_float = _value(table, "float", place, lambda value: isinstance(value, bool), "true or false") or False
    if is_float and len(table) > 2:
        raise OptionError(f"{place}: float = true leaves nothing to quantize; leave the other keys out")
    return Override(
        kind, match, place,
        type=_value(table, "type", place, lambda value: value in TYPES, ", ".join(TYPES)),
        bits=_value(table, "bits", place, _is_width, "2 to 8, or 16"),
        symmetric=_value(table, "symmetric", place, lambda value: isinstance(value, bool), "true or false"),
        range=_range(table, place),
        is_float=is_float,
    )  # fmt: skip


def _value(table: Mapping[str, Any], key: str, place: str, fits: Callable[[Any], bool], choice: str) -> Any:
    """The value of a key; None where it is missing."""
    if key in table and not fits(table[key]):
        raise OptionError(f"{place}: {key} = {table[key]!r} is not available; give {choice}")
    return table.get(key)


def _is_width(value: Any) -> bool:
    return type(value) is int and (2 <= value <= 8 or value == 16)


def _range(table: Mapping[str, Any], place: str) -> Range | None:
    ends = _value(table, "range", place, _is_span, "two finite numbers, the smaller one first: range = [-1.0, 6.0]")
    return None if ends is None else Range(float(ends[0]), float(ends[1]))


LARGEST_END = 1e30
"""Ends of a range, and the scale between them, fit into float32; NaN and infinity are not below it."""


def _is_span(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(end) in (int, float) for end in value)
    return numbers and all(abs(end) <= LARGEST_END for end in value) and value[0] < value[1]
