"""Real inputs: folders, zips and arrays, and what is wrong with them."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dfq_deploy.errors import SamplesError
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.preprocess import PREPROCESSES, Preprocess

UNIT = PREPROCESSES["zero-one"]

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(path: Path, color: tuple[int, int, int] | int, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(color, int) else "RGB", size, color).save(path)


def refused(path: Path, words: str, preprocess: Preprocess | None = UNIT, shape: tuple[int, ...] = (3, 4, 4)) -> None:
    with pytest.raises(SamplesError, match=re.escape(words)):
        read_samples(path, preprocess, shape)


def test_class_folders_with_integer_names_are_the_labels(tmp_path: Path) -> None:
    save(tmp_path / "10/a.png", RED)
    save(tmp_path / "9/a.png", GREEN)
    samples = read_samples(tmp_path, UNIT, (3, 4, 4))
    assert samples.images.dtype == np.float32
    assert samples.labels is not None
    colors = {int(label): image[:, 0, 0].tolist() for label, image in zip(samples.labels, samples.images, strict=True)}
    assert colors == {10: [1, 0, 0], 9: [0, 1, 0]}


def test_class_folders_with_other_names_count_in_sorted_order(tmp_path: Path) -> None:
    for name, color in (("cat", RED), ("ant", GREEN), ("7", BLUE)):
        save(tmp_path / name / "a.png", color)
    samples = read_samples(tmp_path, UNIT, (3, 4, 4))
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2]
    assert samples.images[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("folder", [".", "photos"])
def test_images_of_no_class_have_no_labels(tmp_path: Path, folder: str) -> None:
    save(tmp_path / folder / "a.png", RED)
    save(tmp_path / folder / "b.JPG", RED)
    assert read_samples(tmp_path, UNIT, (3, 4, 4)).labels is None


@pytest.mark.parametrize("zipped", [False, True])
def test_class_names_beside_the_folders_are_obeyed(tmp_path: Path, *, zipped: bool) -> None:
    for name, color in (("cat", RED), ("ant", GREEN)):
        save(tmp_path / "set" / name / "a.png", color)
    (tmp_path / "set/classes.txt").write_text("bee\ncat\nant\n")
    if zipped:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            for file in (tmp_path / "set").rglob("*.*"):
                archive.write(file, file.relative_to(tmp_path / "set"))
    samples = read_samples(tmp_path / ("set.zip" if zipped else "set"), UNIT, (3, 4, 4), classes=1000)
    assert samples.labels is not None
    assert samples.labels.tolist() == [2, 1]
    given = read_samples(tmp_path / "set", UNIT, (3, 4, 4), names=["ant", "cat"])
    assert given.labels is not None
    assert given.labels.tolist() == [0, 1]


def test_folders_that_are_no_classes_of_the_model_give_no_labels(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save(tmp_path / name / "a.png", RED)
    samples = read_samples(tmp_path, UNIT, (3, 4, 4), classes=1000)
    assert samples.labels is None
    assert samples.notes[0].startswith("labels: the 2 folders ('cat', 'dog') cannot be mapped to the")


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    save(tmp_path / "__MACOSX/._a.png", GREEN)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"not an image")
    assert len(read_samples(tmp_path, UNIT, (3, 4, 4))) == 1


def test_the_shorter_side_is_fitted_and_the_centre_kept(tmp_path: Path) -> None:
    stripes = np.zeros((8, 24, 3), np.uint8)
    stripes[:, 8:16] = RED
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    image = read_samples(tmp_path, UNIT, (3, 4, 4)).images[0]
    assert image[0, :, 1:3].min() == 1
    np.testing.assert_array_equal(image[1:], 0)


def test_grey_becomes_color_and_color_grey(tmp_path: Path) -> None:
    save(tmp_path / "grey/a.png", 51)
    save(tmp_path / "color/a.png", GREEN)
    np.testing.assert_allclose(read_samples(tmp_path / "grey", UNIT, (3, 4, 4)).images, 0.2, atol=1e-6)
    # ITU-R 601: green counts 587 in 1000.
    np.testing.assert_allclose(read_samples(tmp_path / "color", UNIT, (1, 4, 4)).images, 150 / 255, atol=1e-6)


def test_the_preprocess_is_applied(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    image = read_samples(tmp_path, Preprocess((0.5, 0.25, 0.0), (0.5, 0.25, 2.0)), (3, 4, 4)).images[0]
    np.testing.assert_allclose(image[:, 0, 0], [1, -1, 0], atol=1e-6)


def test_a_limit_spreads_over_the_classes(tmp_path: Path) -> None:
    for label in range(4):
        for index in range(3):
            save(tmp_path / f"{label}/{index}.png", RED)
    samples = read_samples(tmp_path, UNIT, (3, 4, 4), limit=4)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2, 3]


def test_a_zip_reads_like_its_folder(tmp_path: Path) -> None:
    save(tmp_path / "set/3/a.png", RED)
    save(tmp_path / "set/5/a.png", BLUE)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(file, f"./top/{file.relative_to(tmp_path / 'set')}")
    zipped, plain = (read_samples(tmp_path / name, UNIT, (3, 4, 4)) for name in ("set.zip", "set"))
    np.testing.assert_array_equal(zipped.images, plain.images)
    assert zipped.labels is not None
    assert zipped.labels.tolist() == [3, 5]


def test_the_zoos_zip_as_it_is_described(zoo: Path) -> None:
    samples = read_samples(zoo / "data/imagenet_1000_224.zip", PREPROCESSES["minus-one-one"], (3, 224, 224), limit=5)
    assert samples.labels is not None
    with zipfile.ZipFile(zoo / "data/imagenet_1000_224.zip") as archive:
        names = {int(name.split("/")[0]): name for name in archive.namelist()}
        for image, label in zip(samples.images, samples.labels, strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(names[int(label)]))), np.float32)
            np.testing.assert_allclose(image, (pixels / 127.5 - 1).transpose(2, 0, 1), atol=1e-5)


def pixels(*shape: int) -> NDArray[np.uint8]:
    return np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)


def test_pixels_in_an_array_are_preprocessed(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=pixels(2, 4, 4, 3), labels=np.array([[7], [8]], np.uint8))
    samples = read_samples(tmp_path / "set.npz", UNIT, (3, 4, 4))
    np.testing.assert_allclose(samples.images, pixels(2, 4, 4, 3).transpose(0, 3, 1, 2) / 255, atol=1e-6)
    assert samples.labels is not None
    assert samples.labels.dtype == np.int64
    assert samples.labels.tolist() == [7, 8]


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 4, 4, 1)])
def test_grey_pixels_may_lack_their_channel_axis(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "set.npy", pixels(*shape))
    images = read_samples(tmp_path / "set.npy", UNIT, (1, 4, 4)).images
    np.testing.assert_allclose(images, pixels(2, 1, 4, 4) / 255, atol=1e-6)


def test_pixels_of_another_size_are_resized(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", np.full((2, 16, 8, 3), 255, np.uint8))
    np.testing.assert_array_equal(read_samples(tmp_path / "set.npy", UNIT, (3, 4, 4)).images, np.ones((2, 3, 4, 4)))


def test_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float64)
    np.savez(tmp_path / "set.npz", images=images, labels=np.full((3, 2), 0.5))
    samples = read_samples(tmp_path / "set.npz", None, (5,), limit=2)
    np.testing.assert_array_equal(samples.images, images[:2].astype(np.float32))
    assert samples.labels is not None
    assert samples.labels.dtype == np.float32
    assert samples.labels.shape == (2, 2)


def test_pixels_without_a_preprocess_name_the_way_out(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    words = "add --preprocess imagenet|cifar10|zero-one|minus-one-one|raw or --mean and --std"
    refused(tmp_path, words, preprocess=None)


def test_a_preprocess_of_other_channels_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    refused(tmp_path, "preprocess has 3 channels", preprocess=PREPROCESSES["imagenet"], shape=(1, 4, 4))


def test_images_for_an_input_that_takes_none(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    refused(tmp_path, "images cannot feed an input of shape (12,)", shape=(12,))


def test_missing_and_strange_paths_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", f"{tmp_path / 'nowhere'}: no such file or folder")
    (tmp_path / "set.txt").write_text("text")
    refused(tmp_path / "set.txt", "neither a folder, a .zip, an .npz nor an .npy file")
    refused(tmp_path, "no images in it")


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    save(tmp_path / "cat/good.jpg", RED, (64, 64))
    whole = (tmp_path / "cat/good.jpg").read_bytes()
    (tmp_path / "cat/short.jpg").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, "image 'cat/short.jpg' cannot be read")
    (tmp_path / "cat/short.jpg").write_text("no image at all")
    refused(tmp_path, "image 'cat/short.jpg' cannot be read (unknown image format; known are JPEG, PNG")


def test_a_broken_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK\x03\x04 and then nothing")
    refused(tmp_path / "set.zip", f"{tmp_path / 'set.zip'}: the zip cannot be read")
    save(tmp_path / "a.bmp", RED, (64, 64))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "a.bmp", "a.bmp")
    damaged = bytearray((tmp_path / "set.zip").read_bytes())
    damaged[200] ^= 0xFF
    (tmp_path / "set.zip").write_bytes(damaged)
    refused(tmp_path / "set.zip", "image 'a.bmp' cannot be unpacked (Bad CRC-32")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": np.zeros(3)}, "no array 'images' in it (arrays: pictures)"),
        ({"images": np.zeros((0, 3, 4, 4), np.float32)}, "the array 'images' is empty (shape (0, 3, 4, 4))"),
        (
            {"images": np.zeros((2, 4, 4, 3), np.float32)},
            "shape (2, 4, 4, 3) do not fit the model's input (N, 3, 4, 4)",
        ),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8)}, "(N, H, W, C) with 1 or 3 channels is needed"),
        ({"images": np.zeros((2, 0, 4, 3), np.uint8)}, "which holds no pixels"),
        (
            {"images": np.full((2, 3, 4, 4), 1e300)},
            "values that float32 does not hold among the values of 'images'; remove these samples",
        ),
        (
            {"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.array([1.0, np.nan])},
            "NaN or infinity among the 'labels'; store class numbers",
        ),
        (
            {"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.array([1.0, 3.4])},
            "3.4 among the 'labels' is the number of no class",
        ),
        ({"images": np.zeros((2, 4, 4, 3), np.int32)}, "'images' are int32; uint8 pixels or float32 inputs are needed"),
        (
            {"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.zeros(3, np.int64)},
            "'labels' of shape (3,) do not fit 'images' of shape (2, 4, 4, 3)",
        ),
        (
            {"images": np.zeros((2, 4, 4, 3), np.uint8), "labels": np.array(["cat", "dog"])},
            "'labels' are <U3; class numbers or soft labels are needed",
        ),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, NDArray[np.generic]], words: str) -> None:
    np.savez(tmp_path / "set.npz", allow_pickle=False, **arrays)
    refused(tmp_path / "set.npz", words)


@pytest.mark.parametrize("name", ["set.npz", "set.npy"])
def test_a_truncated_array_file(tmp_path: Path, name: str) -> None:
    (np.savez if name.endswith("npz") else np.save)(tmp_path / name, np.zeros((2, 3, 4, 4), np.float32))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / name, f"{tmp_path / name}: its arrays cannot be read")


def test_more_images_than_memory_holds(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    refused(tmp_path, "GiB of memory; use at most 0, with --samples", shape=(3, 2**19, 2**19))


GREY_16 = np.linspace(0, 65535, 16).round().astype(np.uint16).reshape(4, 4)
COLOR_16 = np.random.default_rng(0).integers(0, 65536, (4, 4, 3)).astype(np.uint16)


def write_png_16(path: Path, pixels: NDArray[np.uint16]) -> None:
    """A PNG of 16 bits a channel, as the format's specification has it: Pillow writes none of three channels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def write_tiff_16(path: Path, pixels: NDArray[np.uint16]) -> None:
    Image.fromarray(pixels).save(path)


def write_pgm_16(path: Path, pixels: NDArray[np.uint16]) -> None:
    path.write_bytes(b"P5 4 4 65535\n" + pixels.astype(">u2").tobytes())


@pytest.mark.parametrize(
    ("name", "write"), [("a.png", write_png_16), ("a.tif", write_tiff_16), ("a.pgm", write_pgm_16)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_grey_keeps_its_levels(
    tmp_path: Path, name: str, write: Callable[[Path, NDArray[np.uint16]], None], channels: int
) -> None:
    write(tmp_path / name, GREY_16)
    (image,) = read_samples(tmp_path, UNIT, (channels, 4, 4)).images
    for channel in image:
        np.testing.assert_allclose(channel, GREY_16 / 65535, atol=0.5 / 255 + 1e-6)


def test_16_bit_colors_keep_their_levels(tmp_path: Path) -> None:
    write_png_16(tmp_path / "a.png", COLOR_16)
    (image,) = read_samples(tmp_path, UNIT, (3, 4, 4)).images
    # Pillow cuts off the lower byte where it could round.
    np.testing.assert_allclose(image.transpose(1, 2, 0), COLOR_16 / 65535, atol=1 / 255)


def test_values_of_no_known_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tif")
    refused(tmp_path, "image 'a.tif' holds floating-point values, whose range is not known; save it with 8 or 16 bits")
    Image.fromarray(np.full((4, 4), 65536, np.int32)).save(tmp_path / "a.tif")
    refused(tmp_path, "image 'a.tif' holds values from 65536 to 65536, beyond 16 bits")


def test_no_samples_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", RED)
    with pytest.raises(SamplesError, match="limit=0 must be at least 1"):
        read_samples(tmp_path, UNIT, (3, 4, 4), limit=0)
