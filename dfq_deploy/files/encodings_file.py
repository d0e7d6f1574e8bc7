"""Read and write encodings.json.

docs/formats.md describes the file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfq_deploy.encodings import Encoding
from dfq_deploy.errors import ModelError, similar_file
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.json_text import parsed_json

__all__ = ["FORMAT", "FORMAT_VERSION", "read_encodings", "write_encodings"]

FORMAT = "dfq-deploy encodings"
"""The format name in the file. Files from before there was a version contain only the mapping of tensors."""

FORMAT_VERSION = 1


def write_encodings(encodings: Mapping[str, Encoding], path: Path) -> None:
    """Write ``encodings``, by tensor name, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {name: encoding.to_json() for name, encoding in encodings.items()}
    document = {"format": FORMAT, "format_version": FORMAT_VERSION, "tensors": tensors}
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_encodings(path: Path) -> dict[str, Encoding]:
    """Read the encodings of a file, by tensor name.

    Raises:
        ModelError: it cannot be read, is not an encodings file, or has a newer format version.
    """
    try:
        entries = _tensors(parsed_json(path.read_text(encoding="utf-8")))
    except OSError as problem:
        raise _unreadable(path, f"{problem.strerror}{similar_file(path)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise _unreadable(path, f"{type(problem).__name__}: {problem}") from None
    if not entries:
        raise _unreadable(path, "it holds no tensor")
    found = {}
    for name, entry in entries.items():
        try:
            found[str(name)] = Encoding.from_json(entry)
        except (ValueError, AttributeError) as problem:
            raise _unreadable(path, f"tensor '{name[:80]}': {problem}") from None
    return found


def _unreadable(path: Path, what: str) -> ModelError:
    return ModelError(
        f"{path}: no encodings can be read from it ({what}); give the encodings.json that dfq-deploy calibrate wrote"
    )


def _tensors(document: Any) -> Mapping[str, Any]:
    # A tensor may be named "format" too: its entry is not a string.
    if not isinstance(document.get("format"), str):
        return dict(document)
    if document["format_version"] > FORMAT_VERSION:
        raise ValueError(f"format version {document['format_version']}, and this dfq-deploy reads {FORMAT_VERSION}")
    return dict(document["tensors"])
