"""encodings.json: what is written is read again, and so are files of before there was a version."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dfq_deploy.encodings import Encoding, QuantType
from dfq_deploy.errors import ModelError
from dfq_deploy.files.encodings_file import read_encodings, write_encodings

ENCODINGS = {
    "image": Encoding(
        np.asarray(0.0186, np.float32), np.asarray(114, np.int32), QuantType(8, signed=False, symmetric=False)
    ),
    "weight": Encoding(
        np.asarray([0.5, 0.25], np.float32), np.zeros(2, np.int32), QuantType(4, signed=True, symmetric=True), axis=0
    ),
    "format": Encoding(np.asarray(1, np.float32), np.asarray(0, np.int32), QuantType(16, signed=True, symmetric=False)),
}
"""One of the tensors is named like a key of the file."""


def same(found: dict[str, Encoding]) -> None:
    assert list(found) == list(ENCODINGS)
    for name, encoding in ENCODINGS.items():
        assert (found[name].qtype, found[name].axis) == (encoding.qtype, encoding.axis)
        np.testing.assert_array_equal(found[name].scale, encoding.scale)
        np.testing.assert_array_equal(found[name].zero_point, encoding.zero_point)


def test_round_trip(tmp_path: Path) -> None:
    write_encodings(ENCODINGS, tmp_path / "encodings.json")
    same(read_encodings(tmp_path / "encodings.json"))
    document = json.loads((tmp_path / "encodings.json").read_text())
    assert {key: document[key] for key in ("format", "format_version")} == {
        "format": "dfq-deploy encodings",
        "format_version": 1,
    }
    assert document["tensors"]["weight"] == {
        "bits": 4, "signed": True, "symmetric": True, "axis": 0, "scale": [0.5, 0.25], "zero_point": [0, 0],
    }  # fmt: skip


def test_a_file_without_a_version_is_read(tmp_path: Path) -> None:
    old = {name: encoding.to_json() for name, encoding in ENCODINGS.items()}
    (tmp_path / "encodings.json").write_text(json.dumps(old))
    same(read_encodings(tmp_path / "encodings.json"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"format": "dfq-deploy encodings", "format_version": 2, "tensors": {}}',
            "format version 2, and this dfq-",
        ),
        ('{"format": "dfq-deploy encodings", "format_version": 1}', "KeyError: 'tensors'"),
        ('{"image": {"bits": 8}}', "bits 8, signed None"),
        ("[]", "AttributeError: "),
        ("no json", "JSONDecodeError: "),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ModelError, match=rf"file\.json: no encodings can be read from it \(.*{words}.*give the enc"):
        read_encodings(tmp_path / "file.json")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("zero_point", 300, "zero point 300 is outside 0 to 255"),
        ("zero_point", -5, "zero point -5 is outside 0 to 255"),
        ("zero_point", 1.5, "zero_point holds 1.5"),
        ("scale", 1e39, "no float32 holds"),
        ("scale", "1", "scale holds '1'"),
        ("scale", [], "an empty list"),
        ("scale", [[1.0]], "which is no number"),
        ("scale", [None], "scale holds None, which is no number"),
        ("scale", None, "scale is missing"),
        ("scale", True, "scale holds True"),
        ("scale", -1.0, "finite and positive"),
        ("axis", 99, "axis 99 is no axis"),
        ("axis", "x", "axis 'x' is no axis"),
        ("signed", "no", "signed 'no'"),
        ("bits", 2**70, "bits=1180591620717411303424"),
    ],
)
def test_every_field_is_checked(tmp_path: Path, field: str, value: object, words: str) -> None:
    entry = ENCODINGS["image"].to_json() | {field: value}
    (tmp_path / "encodings.json").write_text(json.dumps({"image": entry}))
    with pytest.raises(ModelError, match=re.escape(words)) as caught:
        read_encodings(tmp_path / "encodings.json")
    assert "tensor 'image'" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "[" * 100_000, '{"format": "x", "format_version": 1, "tensors": {}}', "1"]
)
def test_files_without_tensors_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "encodings.json").write_text(text)
    with pytest.raises(ModelError, match="no encodings can be read"):
        read_encodings(tmp_path / "encodings.json")
