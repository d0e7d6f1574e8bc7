"""Pictures of 12 bits that are stored in 16 are named, and dark ones of 16 are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfq_deploy.graph.loading import load
from dfq_deploy.samples.image_folder import read_samples
from dfq_deploy.samples.pictures.originals import Original, Originals
from dfq_deploy.samples.samples import Samples
from dfq_deploy.verdict.finding import Finding
from dfq_deploy.verdict.sanity.findings import preprocess_findings, sanity_findings
from dfq_deploy.verdict.sanity.pixel_depth import depth_finding
from examples.digits import data

REAL = Samples(data.PREPROCESS.apply(data.training().images[:32]))


def stored(largest: int, deep: int = 32) -> Finding | None:
    pictures = [Original((16, 16), largest)] * deep + [Original((16, 16))] * (32 - deep)
    return depth_finding(replace(REAL, originals=Originals.of(pictures, (16, 16))))


@pytest.mark.parametrize(("largest", "bits", "looks"), [(4001, 12, "almost black"), (16383, 14, "dark")])
def test_few_bits_are_named_with_the_way_out(largest: int, bits: int, looks: str) -> None:
    found = stored(largest)
    assert found is not None
    assert (found.code, found.level) == ("samples-bits", "CHECK")
    assert found.message == (
        f"32 of 32 picture(s) are stored in 16 bits and hold no value above {largest}, as sensors of {bits} bits give: "
        f"where 65535 is white, they are {looks}"
    )
    most = 2**bits - 1
    assert found.remedy == (f"scale them to the full range (value / {most} * 65535), or give an .npz of uint8 'images'")


@pytest.mark.parametrize(("deep", "level"), [(4, "OK"), (5, "CHECK")])
def test_few_of_many_are_no_finding(deep: int, level: str) -> None:
    found = depth_finding(replace(REAL, originals=Originals(100, (16, 16), (), deep, 4000)))
    assert found is not None
    assert found.level == level


def test_real_16_bits_are_not_accused() -> None:
    assert stored(4096) is None
    assert stored(16382) is None
    assert stored(65535) is None
    assert depth_finding(REAL) is None


def test_one_dark_picture_among_many_is_ok() -> None:
    found = stored(4000, deep=1)
    assert found is not None
    assert (found.level, found.remedy) == ("OK", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Digits as a sensor of 12 bits gives them."""
    for index, pixels in enumerate(data.training().images[:32]):
        Image.fromarray(pixels.reshape(16, 16).astype(np.uint16) * 16).save(tmp_path / f"{index}.tif")
    return tmp_path


def test_it_comes_before_what_follows_from_it(folder: Path, digits_folded: Path) -> None:
    samples = read_samples(folder, data.PREPROCESS, (1, 16, 16))
    assert samples.images.max() < data.PREPROCESS.bounds(1)[1][0] / 10
    found = sanity_findings(load(digits_folded), samples, data.PREPROCESS)
    doubtful = [entry for entry in found if entry.level != "OK"]
    assert doubtful[0].code == "samples-bits"
    follows = next(entry for entry in doubtful if entry.code == "samples-range")
    assert follows.remedy == doubtful[0].remedy


def test_evaluate_names_it_in_place_of_the_preprocess(folder: Path, digits_folded: Path) -> None:
    samples = read_samples(folder, data.PREPROCESS, (1, 16, 16))
    (found,) = preprocess_findings(load(digits_folded), samples, data.PREPROCESS)
    assert found.code == "samples-bits"


def test_what_was_scaled_is_fine(folder: Path, digits_folded: Path) -> None:
    """By the formula of the remedy."""
    for file in folder.glob("*.tif"):
        values = np.asarray(Image.open(file)).astype(np.int64)
        Image.fromarray((values / 4095 * 65535).astype(np.uint16)).save(file)
    samples = read_samples(folder, data.PREPROCESS, (1, 16, 16))
    codes = {entry.code: entry.level for entry in sanity_findings(load(digits_folded), samples, data.PREPROCESS)}
    assert "samples-bits" not in codes
    assert codes["samples-range"] == "OK"
