"""Samples and their file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dfq_deploy.errors import OutputError, SamplesError
from dfq_deploy.files import arrays
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.samples.samples import Samples

IMAGES = np.random.default_rng(0).normal(0, 1, (3, 2, 4, 5)).astype(np.float32)


@pytest.mark.parametrize(
    "labels",
    [None, np.array([4, 0, 9], np.int64), np.eye(3, 10, dtype=np.float32)],
    ids=["unlabelled", "classes", "soft"],
)
def test_file_round_trip(tmp_path: Path, labels: NDArray[Any] | None) -> None:
    Samples(IMAGES, labels).save(tmp_path / "samples.npz")
    back = Samples.load(tmp_path / "samples.npz")
    np.testing.assert_array_equal(back.images, IMAGES, strict=True)
    if labels is None:
        assert back.labels is None
    else:
        assert back.labels is not None
        np.testing.assert_array_equal(back.labels, labels, strict=True)


def test_file_is_a_plain_npz(tmp_path: Path) -> None:
    Samples(IMAGES, np.array([4, 0, 9], np.int64)).save(tmp_path / "samples.npz")
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["format_version", "images", "labels"]
    Samples(IMAGES).save(tmp_path / "samples.npz")
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as arrays:
        assert arrays.files == ["images", "format_version"]


def test_same_samples_same_file(tmp_path: Path) -> None:
    Samples(IMAGES).save(tmp_path / "one.npz")
    Samples(IMAGES.copy()).save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize("limit", [0, 1 << 28])
def test_a_part_of_a_large_set_finds_room(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(arrays, "IN_MEMORY", limit)
    images = np.arange(2000, dtype=np.float32).reshape(1000, 2)
    whole = Samples(images, np.arange(1000))
    kept = np.arange(1000) % 8 != 7
    for index in (kept, np.flatnonzero(kept)):
        part = whole.part(index)
        np.testing.assert_array_equal(part.images, images[index])
        assert isinstance(part.images, np.memmap) == (limit == 0)
        assert part.labels is not None
        assert part.labels.tolist() == np.arange(1000)[index].tolist()
    assert np.shares_memory(whole.part(slice(3, 9)).images, images)


def test_length() -> None:
    assert len(Samples(IMAGES)) == 3


def test_empty_set() -> None:
    with pytest.raises(SamplesError, match=r"the set is empty \(shape \(0, 3, 8, 8\)\); at least one is needed"):
        Samples(np.zeros((0, 3, 8, 8), np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers(bad: float) -> None:
    with pytest.raises(SamplesError, match="NaN or infinity among the values"):
        Samples(np.array([[0, bad]], np.float32))


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(SamplesError, match=r"labels of shape \(2,\) for 3 images"):
        Samples(IMAGES, np.zeros(2, np.int64))


def _write_text(path: Path) -> None:
    path.write_text("not an archive")


def _write_empty(path: Path) -> None:
    path.write_bytes(b"")


def _write_cut_short(path: Path) -> None:
    np.savez(path, images=IMAGES)
    path.write_bytes(path.read_bytes()[:-40])


def _write_other_names(path: Path) -> None:
    np.savez(path, pictures=IMAGES)


def _write_pixels(path: Path) -> None:
    np.savez(path, images=np.zeros((2, 8, 8, 3), np.uint8))


def _write_objects(path: Path) -> None:
    np.savez(path, images=np.array([{"a": 1}], object))


def _write_single_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, IMAGES)


@pytest.mark.parametrize(
    "write",
    [
        _write_text,
        _write_empty,
        _write_cut_short,
        _write_other_names,
        _write_pixels,
        _write_objects,
        _write_single_array,
    ],
)
def test_files_that_hold_no_samples(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "samples.npz"
    write(path)
    with pytest.raises(SamplesError, match=r"samples\.npz: not a samples file \(.+\); make one with dfq-deploy synth"):
        Samples.load(path)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match=r"gone\.npz: not a samples file \(.*No such file"):
        Samples.load(tmp_path / "gone.npz")


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(OutputError, match=r"^cannot write .*samples\.npz: .*; choose another place with -o$"):
        Samples(IMAGES).save(tmp_path / "taken" / "samples.npz")


def test_the_preprocess_comes_back(tmp_path: Path) -> None:
    Samples(IMAGES, preprocess=PREPROCESSES["imagenet"]).save(tmp_path / "samples.npz")
    assert Samples.load(str(tmp_path / "samples.npz")).preprocess == PREPROCESSES["imagenet"]
    with np.load(tmp_path / "samples.npz") as arrays:
        assert arrays.files == ["images", "format_version", "mean", "std"]
        assert arrays["std"].tolist() == [0.229, 0.224, 0.225]
    assert Samples(IMAGES, preprocess=PREPROCESSES["imagenet"]).part(slice(1)).preprocess == PREPROCESSES["imagenet"]


def test_a_file_without_a_version_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "old.npz", images=IMAGES, method=np.array("zeroq"))
    back = Samples.load(tmp_path / "old.npz")
    assert (back.method, back.preprocess) == ("zeroq", None)


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", images=IMAGES, format_version=np.array(2))
    with pytest.raises(SamplesError, match=r"its format version is 2, and this dfq-deploy reads up to 1: upgrade"):
        Samples.load(tmp_path / "new.npz")
