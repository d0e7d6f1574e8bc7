"""Photographs are read upright, and a damaged EXIF block harms none."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from dfq_deploy.evaluation.detection.annotations import read_annotations
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.pictures.decoding import decoded
from dfq_deploy.samples.pictures.listing import image_sizes
from dfq_deploy.samples.preprocess import PREPROCESSES

UNIT = PREPROCESSES["zero-one"]

KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}

SEEN = np.repeat(np.repeat(np.array([[250, 90, 10], [170, 50, 130]], np.uint8), 16, axis=0), 16, axis=1)
"""Two rows of three grey squares, each different from all others."""

STORED = {
    1: SEEN,
    2: SEEN[:, ::-1],
    3: SEEN[::-1, ::-1],
    4: SEEN[::-1],
    5: SEEN.T,
    6: np.rot90(SEEN),  # the camera was turned, and a viewer turns the picture clockwise
    7: SEEN.T[::-1, ::-1],
    8: np.rot90(SEEN, -1),
}
"""Orientation -> how the pixels are stored; Exif 3.0, 4.6.5.1.6."""


def photograph(lies: int, kind: str, block: bytes | None = None) -> bytes:
    """SEEN as a camera that was held so would store it; ``block`` is its EXIF block in place of a right one."""
    image, stream = Image.fromarray(np.ascontiguousarray(STORED[lies])).convert("RGB"), io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = lies
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    image.save(stream, kind, exif=exif.tobytes() if block is None else block, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lies", STORED)
def test_a_photograph_is_turned_upright(kind: str, lies: int) -> None:
    found = decoded(photograph(lies, kind), "L")
    np.testing.assert_allclose(np.asarray(found.image, np.float32), SEEN, atol=6)
    assert found.original.size == (48, 32)


def test_the_sizes_of_files_are_those_that_are_seen(tmp_path: Path) -> None:
    for kind, ending in KINDS.items():
        for lies in STORED:
            (tmp_path / f"{lies}.{ending}").write_bytes(photograph(lies, kind))
    assert {(image.width, image.height) for image in image_sizes(tmp_path)} == {(48, 32)}


def test_samples_are_upright(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(photograph(6, "PNG"))
    image = read_samples(tmp_path, UNIT, (1, 32, 48)).images[0, 0]
    np.testing.assert_allclose(image, SEEN / 255, atol=1e-6)


def test_boxes_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(photograph(6, "JPEG"))
    (tmp_path / "a.txt").write_text("0 0.5 0.5 1 1\n")
    ((_, box, _),) = read_annotations(tmp_path, tmp_path).objects[0]
    assert box == (0, 0, 48, 32)


def damaged() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    block = exif.tobytes()
    turned = {"ends early": block[:12], "no header": b"Exif\x00\x00damaged!", "half a header": block[:9]}
    far = block[:10] + b"\xff\xff\xff\x7f" + block[14:]
    text = block.replace(b"\x12\x01\x03\x00", b"\x12\x01\x02\x00").replace(b"\x01\x12\x00\x03", b"\x01\x12\x00\x02")
    assert text != block
    return turned | {"directory far off": far, "a text for a number": text, "of no bytes": b"Exif\x00\x00"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("what", damaged())
def test_a_picture_with_a_damaged_block_is_read_as_it_lies(kind: str, what: str) -> None:
    found = decoded(photograph(6, kind, damaged()[what]), "L")
    np.testing.assert_allclose(np.asarray(found.image, np.float32), STORED[6], atol=6)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_numbers_of_no_orientation_turn_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    found = decoded(photograph(6, "PNG", exif.tobytes()), "L")
    np.testing.assert_array_equal(np.asarray(found.image), STORED[6])


def test_any_damage_leaves_a_picture(tmp_path: Path) -> None:
    """Blocks of which bytes were changed at random; only the pixels are read where they say nothing that is known."""
    exif, rng = Image.Exif(), np.random.default_rng(0)
    exif[ExifTags.Base.Orientation] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:01:01"
    block = np.frombuffer(exif.tobytes(), np.uint8)
    for index in range(200):
        changed = block[: rng.integers(7, len(block))] if index % 3 == 0 else block.copy()
        changed = changed.copy()
        changed[rng.integers(6, len(changed), 3)] = rng.integers(0, 256, 3)
        kind = ("JPEG", "PNG", "WEBP")[index % 3]
        found = decoded(photograph(1, kind, changed.tobytes()), "L")
        assert sorted(found.image.size) == [32, 48]
