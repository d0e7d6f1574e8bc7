"""Mutate bytes, JSON and lines of text."""

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

__all__ = ["INTEGERS", "STRINGS", "mutated_bytes", "mutated_json", "mutated_lines"]

INTEGERS = (
    *(0, 1, -1, 2, 3, 5, 7, 8, 16, 17, 77, 127, 128, 255, 256, 1000, 4096, 32767, 65536, 10**6, 2**24, 2**30),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63), -2, -5),
)
"""Numbers at which code breaks; all fit into 64 bits."""

STRINGS = (
    "",
    "x",
    "\x1b[2J",
    "../../up",
    "/etc/passwd",
    "a" * 300,
    "b" * 5000,
    "é\u202eß",
    "\x00",
    "None",
    "0",
    "%s%n",
)
"""Names at which code breaks."""


def mutated_bytes(data: bytes, rng: Random) -> bytes:
    """Flip, overwrite, remove, insert or repeat bytes, or cut the end off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not changed:
            return bytes(rng.randbytes(rng.randrange(64)))
        place = rng.randrange(len(changed))
        kind = rng.randrange(7)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del changed[place : place + rng.choice((1, 2, 4, 100))]
        elif kind == 3:
            changed[place:place] = rng.randbytes(rng.choice((1, 2, 4, 100)))
        elif kind == 4:
            changed[place:place] = changed[place : place + rng.choice((4, 32, 500))]
        elif kind == 5:
            value = rng.choice(INTEGERS) % 2**32
            changed[place : place + 4] = value.to_bytes(4, rng.choice(("little", "big")))
        else:
            del changed[place:]
    return bytes(changed)


def _values() -> tuple[Any, ...]:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    return (
        *(None, True, False, [], {}, [[]], [None], {"a": 1}, deep, 0.5, 1e-46, 1e39, 1e308, float("nan"), float("inf")),
        *(2**70, -(2**70), 10**400, *INTEGERS, *STRINGS),
    )


VALUES = _values()


def mutated_json(data: bytes, rng: Random) -> bytes:
    """Replace, remove, repeat or wrap one value anywhere in a JSON document; sometimes mutate its bytes.

    One in a hundred is nested more deeply than Python's parser goes.
    """
    if rng.random() < 0.2:
        return mutated_bytes(data, rng)
    if rng.random() < 0.01:
        return rng.choice((b"[" * 5000 + data + b"]" * 5000, b'{"a":' * 5000 + data + b"}" * 5000, data + b"[" * 5000))
    document = [json.loads(data)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        _mutate_value(document, rng)
    text = json.dumps(document[0] if document else None)
    return text.encode()


def _mutate_value(document: Any, rng: Random) -> None:
    parent, key = document, 0
    while True:
        if isinstance(parent, list):
            if not parent:
                return
            key = rng.randrange(len(parent))
        else:
            if not parent:
                return
            key = rng.choice(list(parent))
        child = parent[key]
        if not isinstance(child, list | dict) or not child or rng.random() < 0.2:
            break
        parent = child
    changes: tuple[Callable[[], None], ...] = (
        lambda: parent.__setitem__(key, deepcopy(rng.choice(VALUES))),
        lambda: parent.__setitem__(key, deepcopy(rng.choice(VALUES))),
        lambda: parent.__delitem__(key),
        lambda: parent.__setitem__(key, [parent[key]]),
        lambda: parent.append(parent[key]) if isinstance(parent, list) else parent.update({rng.choice(STRINGS): 1}),
    )
    rng.choice(changes)()


def mutated_lines(data: bytes, rng: Random) -> bytes:
    """Change, remove, repeat or swap lines of text, or mutate its bytes."""
    if rng.random() < 0.4:
        return mutated_bytes(data, rng)
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(lines)) if lines else 0
        kind = rng.randrange(5)
        if not lines or kind == 0:
            lines.insert(place, rng.choice(STRINGS).encode())
        elif kind == 1:
            lines[place] = mutated_bytes(lines[place], rng)
        elif kind == 2:
            del lines[place]
        elif kind == 3:
            lines.insert(place, rng.choice(lines))
        else:
            words = lines[place].split(b" ")
            words[rng.randrange(len(words))] = str(rng.choice(VALUES))[:400].encode()
            lines[place] = b" ".join(words)
    return b"\n".join(lines)
