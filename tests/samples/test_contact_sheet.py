"""Contact sheets: what they show, pixel by pixel."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfq_deploy.samples.contact_sheet import contact_sheet
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.samples.samples import Samples

DARK, MARGIN = 24, 3


def sheet(samples: Samples, path: Path, *, colors: bool = True) -> NDArray[np.uint8]:
    assert contact_sheet(samples, PREPROCESSES["zero-one"] if colors else None, path)
    return np.asarray(Image.open(path))


def test_small_images_are_enlarged_in_true_color(tmp_path: Path) -> None:
    image = np.zeros((1, 3, 32, 32), np.float32)
    image[0, 0, 5, 7] = 1
    pixels = sheet(Samples(image), tmp_path / "sheet.png")
    assert pixels.shape == (96 + 2 * MARGIN, 96 + 2 * MARGIN, 3)
    rows, columns = np.nonzero((pixels == (255, 0, 0)).all(axis=2))
    assert (rows.min(), rows.max()) == (MARGIN + 15, MARGIN + 17)
    assert (columns.min(), columns.max()) == (MARGIN + 21, MARGIN + 23)
    assert (pixels[:MARGIN] == DARK).all()


def test_at_most_64_stand_in_rows_in_their_order(tmp_path: Path) -> None:
    levels = np.arange(70, dtype=np.float32) / np.float32(255)
    images = np.tile(levels[:, None, None, None], (1, 1, 32, 32))
    pixels = sheet(Samples(images), tmp_path / "sheet.png")
    step = 96 + MARGIN
    assert pixels.shape == (8 * step + MARGIN, 8 * step + MARGIN)
    assert pixels[MARGIN::step, MARGIN::step].ravel().tolist() == list(range(64))


def test_without_a_preprocess_each_image_is_stretched(tmp_path: Path) -> None:
    images = np.zeros((2, 1, 32, 32), np.float32)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 5, -0.25
    pixels = sheet(Samples(images), tmp_path / "sheet.png", colors=False)
    first, second = MARGIN, 2 * MARGIN + 96
    assert (pixels[MARGIN, first], pixels[MARGIN + 50, first + 50]) == (255, 0)
    assert (pixels[MARGIN, second], pixels[MARGIN + 50, second + 50]) == (0, 255)


def test_a_constant_image_is_no_division_by_zero(tmp_path: Path) -> None:
    pixels = sheet(Samples(np.full((1, 1, 32, 32), 3, np.float32)), tmp_path / "sheet.png", colors=False)
    assert pixels[50, 50] == 0


def test_many_large_images_are_averaged_to_a_screens_width(tmp_path: Path) -> None:
    images = np.zeros((64, 1, 224, 224), np.float32)
    images[:, :, ::2] = 1
    pixels = sheet(Samples(images), tmp_path / "sheet.png")
    assert pixels.shape == (8 * 115 + MARGIN, 8 * 115 + MARGIN)
    assert pixels[50, 50] == 128


def test_what_is_no_image_gives_no_file(tmp_path: Path) -> None:
    for shape in ((2, 8), (2, 5, 8, 8), (2, 3, 8)):
        assert contact_sheet(Samples(np.zeros(shape, np.float32)), None, tmp_path / "sheet.png") is False
    assert list(tmp_path.iterdir()) == []


def test_a_caption_says_what_came_of_the_samples(tmp_path: Path) -> None:
    images = np.full((4, 3, 32, 32), 0.5, np.float32)
    plain = sheet(Samples(images, figures={"target_hit": 1.0}), tmp_path / "plain.png")
    short = sheet(Samples(images, figures={"confidence": 0.5}), tmp_path / "short.png")
    long = sheet(
        Samples(images, figures={"confidence": 0.5, "diversity": 0.5, "statistics_distance": 0.5}), tmp_path / "l.png"
    )
    for captioned, lines in ((short, 1), (long, 2)):
        np.testing.assert_array_equal(captioned[: len(plain)], plain)
        band = captioned[len(plain) :]
        assert len(band) == lines * 19 + MARGIN
        assert band.max() > 150
        assert (band[:, -MARGIN:] == DARK).all()
