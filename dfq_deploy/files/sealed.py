"""Write and read the state of an interrupted run, with a checksum.

A sealed file ends with a mark and the SHA-256 of what precedes it; a sealed JSON document has an entry for it.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dfq_deploy.errors import one_line
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.json_text import parsed_json

__all__ = ["Damaged", "read_document", "read_state", "write_document", "write_state"]

MARK = b"dfq-sha256:"

CHECKSUM = "sha256"
"""The entry of a document."""


class Damaged(ValueError):  # noqa: N818 - says what it is
    """The file is not what was written; the message says how that is known."""


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values by name, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    with atomic_file(path) as partial, partial.open("wb") as file:
        file.write(stream.getbuffer())
        file.write(MARK + hashlib.sha256(stream.getbuffer()).digest())


def read_state(path: Path) -> dict[str, Any]:
    """Read a file of :func:`write_state`, onto the CPU; no code in it is executed.

    Raises:
        Damaged: it cannot be read, or its checksum is another.
    """
    try:
        content = memoryview(path.read_bytes())
    except OSError as problem:
        raise Damaged(problem.strerror or str(problem)) from None
    end = len(content) - len(MARK) - hashlib.sha256().digest_size
    if end < 0 or bytes(content[end : end + len(MARK)]) != MARK:
        raise Damaged("it is cut short, or was not written by this version")
    if hashlib.sha256(content[:end]).digest() != bytes(content[end + len(MARK) :]):
        raise Damaged("its checksum is another: its bytes have changed since it was written")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content[:end]), map_location="cpu", weights_only=True)
    except Exception as problem:  # torch.load raises many types of exception on a file that it does not know
        raise Damaged(one_line(problem, 120)) from None
    return state


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write plain values by name as JSON, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    text = json.dumps({**document, CHECKSUM: _checksum(document)}, indent=1, sort_keys=True)
    with atomic_file(path) as partial:
        partial.write_text(f"{text}\n", encoding="utf-8")


def read_document(path: Path) -> dict[str, Any]:
    """Read a file of :func:`write_document`.

    Raises:
        Damaged: it cannot be read, or its checksum is another.
    """
    try:
        document = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise Damaged(one_line(problem, 120)) from None
    if not isinstance(document, dict):
        raise Damaged("it holds no entries")
    stated = document.pop(CHECKSUM, None)
    if stated != _checksum(document):
        raise Damaged("its checksum is another: its bytes have changed since it was written")
    return document


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
