"""Image files are decoded within limits, and only those of known formats."""

import io
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfq_deploy.errors import SamplesError
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.pictures.decoding import FORMATS, BrokenPicture, decoded, opened
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.validation.bounds import Bounds, use_bounds

UNIT = PREPROCESSES["zero-one"]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def refused(content: bytes, words: str) -> None:
    with pytest.raises(BrokenPicture, match=re.escape(words)):
        decoded(content, "RGB")


@pytest.mark.parametrize("kind", FORMATS)
def test_known_formats_are_read(kind: str) -> None:
    image = Image.new("RGB", (5, 4), (255, 0, 0))
    found = decoded(encoded(image, kind), "RGB")
    assert (found.image.size, found.image.mode, found.frames) == ((5, 4), "RGB", 1)
    assert np.asarray(found.image)[0, 0].tolist() == pytest.approx([255, 0, 0], abs=2)


@pytest.mark.parametrize("kind", ["EPS", "ICO", "TGA", "PDF"])
def test_other_formats_of_pillow_are_not_even_opened(kind: str) -> None:
    refused(encoded(Image.new("RGB", (16, 16)), kind), "unknown image format; known are JPEG, PNG")


def png_of(width: int, height: int) -> bytes:
    """The head of a PNG of that size, without pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b""))


def test_pixels_are_counted_before_they_are_decoded() -> None:
    with use_bounds(Bounds(memory=2**20)):
        refused(png_of(1000, 1000), "has 1000 x 1000 pixels, which take 8,000,000 bytes, the limit is 1,048,576")
        with pytest.raises(BrokenPicture, match="raise --max-memory"):
            opened(png_of(1000, 1000))
    refused(png_of(10**6, 10**6), "cannot be read (DecompressionBombError")


def test_the_first_of_several_frames_is_used_and_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for kind, ending in (("GIF", "gif"), ("TIFF", "tif"), ("PNG", "png"), ("WEBP", "webp")):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        (tmp_path / f"a.{ending}").write_bytes(content)
    samples = read_samples(tmp_path, UNIT, (3, 4, 4))
    np.testing.assert_allclose(samples.images[:, :, 0, 0], [[1, 0, 0]] * 4, atol=0.02)
    assert samples.notes[-1] == "4 image(s) have several frames ('a.gif' first): the first one is used"


def test_a_zip_does_not_unpack_to_more_than_the_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0/a.png", bytes(2**21))
    with use_bounds(Bounds(memory=2**20)), pytest.raises(SamplesError) as caught:
        read_samples(tmp_path / "a.zip", UNIT, (3, 4, 4))
    assert "image '0/a.png' cannot be unpacked ('0/a.png' takes 2,097,152 bytes" in str(caught.value)


def test_no_image_shrinks_to_a_hundredth(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bmp", bytes(2**26 + 1))
    with pytest.raises(SamplesError, match="bytes, as no image does"):
        read_samples(tmp_path / "a.zip", UNIT, (3, 4, 4))
