"""AIMET's encodings files: versions 0.6.1 and 1.0.0 are read, 1.0.0 is written.

AIMET counts integers from 0: ``x ~ (q + offset) * scale`` with ``0 <= q < 2**bits``. The offset is minus the zero point
of an unsigned type, and a symmetric type has the offset ``-2**(bits - 1)``. The axis of channels is not in the file: it
is that of the operator's output channels.
"""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.errors import ModelError
from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.json_text import parsed_json

__all__ = ["is_aimet", "read_aimet", "write_aimet"]

VERSION = "1.0.0"

SECTIONS = ("activation_encodings", "param_encodings")


def is_aimet(path: Path) -> bool:
    """True for a JSON file with AIMET's sections."""
    try:
        document = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and all(section in document for section in SECTIONS)


def write_aimet(encodings: Mapping[str, Encoding], parameters: Collection[str], path: Path) -> None:
    """Write ``encodings``, by tensor name, atomically.

    Args:
        parameters: names of the initializers among them.

    Raises:
        ModelError: an encoding is FP8.
        OutputError: the file cannot be written.
    """
    sections: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    for name, encoding in encodings.items():
        qtype = encoding.qtype
        if qtype.floating:
            raise ModelError(f"tensor '{name}': its encoding is FP8; an AIMET file holds integers here")
        first = 2 ** (qtype.bits - 1) if qtype.signed else 0
        entry = {
            **{"name": name, "dtype": "INT", "bw": qtype.bits, "is_sym": qtype.symmetric},
            "enc_type": "PER_TENSOR" if encoding.axis is None else "PER_CHANNEL",
            "scale": np.atleast_1d(encoding.scale).tolist(),
            "offset": (-np.atleast_1d(encoding.zero_point) - first).tolist(),
        }
        sections[SECTIONS[name in parameters]].append(entry)
    with atomic_file(path) as partial:
        partial.write_text(json.dumps({"version": VERSION, **sections}, indent=1) + "\n", encoding="utf-8")


def read_aimet(path: Path, axis_of: Callable[[str], int | None], *, signed: bool) -> dict[str, Encoding]:
    """Read the encodings of a file, by tensor name; those of biases, and floats, are left out.

    Args:
        axis_of: the channel axis of a parameter by its name; None if it has none, such as a bias.
        signed: use signed types for activations, as the target does; symmetric parameters are signed in any case.

    Raises:
        ModelError: it cannot be read, or is not an encodings file of AIMET.
    """
    try:
        document = parsed_json(path.read_text(encoding="utf-8"))
        found: dict[str, Encoding] = {}
        for section in SECTIONS:
            for name, entry in _entries(document[section]):
                axis = axis_of(name) if section == SECTIONS[1] else None
                if entry["dtype"].upper() != "INT" or (section == SECTIONS[1] and axis is None):
                    continue
                found[name] = _encoding(entry, axis, signed or section == SECTIONS[1])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise ModelError(
            f"{path}: no AIMET encodings can be read from it ({type(problem).__name__}: {problem}); export them with "
            "AIMET's version 0.6.1 or 1.0.0"
        ) from None
    return found


def _entries(section: Any) -> list[tuple[str, dict[str, Any]]]:
    """Name and entry of each tensor, in the form of version 1.0.0."""
    if isinstance(section, list):
        return [(entry["name"], entry) for entry in section]
    return [
        (
            name,
            {
                **{"dtype": channels[0]["dtype"], "bw": channels[0]["bitwidth"]},
                "is_sym": str(channels[0]["is_symmetric"]) == "True",
                **{key: [channel[key] for channel in channels] for key in ("scale", "offset")},
            },
        )
        for name, channels in section.items()
        if channels and "scale" in channels[0]
    ]


def _encoding(entry: Mapping[str, Any], axis: int | None, signed: bool) -> Encoding:
    bits, symmetric = int(entry["bw"]), bool(entry["is_sym"])
    scale, offset = np.asarray(entry["scale"], np.float32), np.rint(entry["offset"]).astype(np.int32)
    zero_point = -offset - (2 ** (bits - 1) if signed else 0)
    if scale.size == 1:
        return Encoding(scale.reshape(()), zero_point.reshape(()), QuantType(bits, signed, symmetric), None)
    return Encoding(scale, zero_point, QuantType(bits, signed, symmetric), axis)
