"""What image files were like: small ones are said, and how many bits are used."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.pictures.originals import Original, Originals
from dfq_deploy.samples.preprocess import PREPROCESSES

UNIT = PREPROCESSES["zero-one"]

COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels -> PNG's number of them."""


def save_16(path: Path, pixels: NDArray[np.uint16]) -> None:
    """Write a PNG of 16 bits, (H, W) or (H, W, C); Pillow writes no colors of 16 bits."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, COLOR_TYPES[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def grey(most: int, seed: int = 0) -> NDArray[np.uint16]:
    pixels = np.random.default_rng(seed).integers(0, most, (8, 8), endpoint=True).astype(np.uint16)
    pixels[0, 0] = most
    return pixels


def originals(path: Path, shape: tuple[int, ...] = (3, 8, 8)) -> Originals:
    found = read_samples(path, UNIT, shape).originals
    assert found is not None
    return found


DEPTHS = [(200, 8), (1023, 10), (3900, 12), (4095, 12), (4096, None), (16382, None), (16383, 14), (40000, None)]


@pytest.mark.parametrize(("most", "bits"), DEPTHS)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_the_largest_value_tells_the_depth(tmp_path: Path, most: int, bits: int | None, ending: str) -> None:
    for index in range(3):
        values = grey(most if index == 1 else most // 2, index)
        if ending == "png":
            save_16(tmp_path / f"{index}.png", values)
        else:
            Image.fromarray(values).save(tmp_path / f"{index}.tif")
    found = originals(tmp_path)
    assert (found.deep, found.largest, found.bits) == (3, most, bits)


COLOR_DEPTHS = [(200, 8), (1000, 10), (4095, 12), (4096, None), (16383, None), (40000, None)]


@pytest.mark.parametrize(("most", "bits"), COLOR_DEPTHS)
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colors_of_16_bits_tell_it_too(tmp_path: Path, most: int, bits: int | None, channels: int) -> None:
    """Of which Pillow keeps the upper byte; the opacity is no brightness."""
    pixels = np.repeat(grey(most)[..., None], channels, axis=2)
    if channels in (2, 4):
        pixels[..., -1] = 65535
    save_16(tmp_path / "a.png", pixels)
    found = originals(tmp_path)
    assert (found.deep, found.bits) == (1, bits)


def test_one_bright_picture_shows_that_16_bits_are_used(tmp_path: Path) -> None:
    save_16(tmp_path / "night.png", grey(3000))
    assert originals(tmp_path).bits == 12
    save_16(tmp_path / "day.png", grey(50000))
    assert originals(tmp_path).bits is None


@pytest.mark.parametrize("most", [255, 15])
def test_8_bits_are_not_judged(tmp_path: Path, most: int) -> None:
    Image.fromarray(grey(most).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.stack([grey(most).astype(np.uint8)] * 3, axis=-1)).save(tmp_path / "b.png")
    found = originals(tmp_path)
    assert (found.count, found.deep, found.bits) == (2, 0, None)


def test_a_pgm_states_its_white(tmp_path: Path) -> None:
    """Values of 0 to 4095 out of 4095 are read as they are meant."""
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 4095\n" + grey(4095).astype(">u2").tobytes())
    samples = read_samples(tmp_path, UNIT, (1, 8, 8))
    np.testing.assert_allclose(samples.images[0, 0], grey(4095) / 4095, atol=0.5 / 255 + 1e-6)
    assert samples.originals is not None
    assert samples.originals.bits is None


def test_black_is_no_depth() -> None:
    assert Originals.of([Original((8, 8), 0)], (8, 8)).bits is None


def test_small_pictures_are_said_once(tmp_path: Path) -> None:
    for index, size in enumerate([(32, 32), (32, 32), (40, 90), (112, 112), (224, 300)]):
        Image.new("RGB", size, (200, 90, index)).save(tmp_path / f"{index}.png")
    (said,) = read_samples(tmp_path, UNIT, (3, 224, 224)).notes
    assert said == (
        "3 of 5 picture(s) are much smaller than the input of 224 x 224 and were enlarged (32 x 32 to 40 x 90 pixels): "
        "the model sees them blurred, and is less accurate on them than on others"
    )
    assert read_samples(tmp_path, UNIT, (3, 64, 64)).notes == ()


@pytest.mark.parametrize("shape", [(3, 224, 160), (224, 160, 3)])
def test_so_are_arrays_of_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 32, 32, 3), np.uint8))
    (said,) = read_samples(tmp_path / "a.npz", UNIT, shape).notes
    assert said.startswith("4 of 4 picture(s) are much smaller than the input of 160 x 224 and were enlarged (32 x 32 ")
    np.savez(tmp_path / "b.npz", images=np.zeros((4, *shape), np.float32))
    assert read_samples(tmp_path / "b.npz", UNIT, shape).originals is None
