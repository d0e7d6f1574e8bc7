"""Labels by folder: numbers, sorted names, files of class names, and what is no label of the model."""

import re
from pathlib import Path

import pytest

from dfq_deploy.errors import SamplesError
from dfq_deploy.samples.labels import folder_labels, parse_class_names, read_class_names

SYNSETS = [f"n{number:08d}" for number in range(1440764, 1441764)]


def labels(folders: list[str], names: list[str] | None = None, classes: int | None = None) -> list[int] | None:
    found = folder_labels(folders, names, classes)
    return None if found.labels is None else found.labels.tolist()


def test_numbers_are_the_labels() -> None:
    assert labels(["10", "9", "10"], classes=11) == [10, 9, 10]


def test_sorted_names_count_where_there_is_a_folder_for_each_class() -> None:
    assert labels(["dog", "cat", "dog"], classes=2) == [1, 0, 1]
    assert labels(list(reversed(SYNSETS)), classes=1000) == list(range(999, -1, -1))


def test_a_cat_and_a_dog_are_not_the_first_two_of_1000_classes() -> None:
    found = folder_labels(["dog", "cat"], None, 1000)
    assert found.labels is None
    assert found.note == (
        "labels: the 2 folders ('cat', 'dog') cannot be mapped to the 1000 classes of the model, so there is no top-1; "
        "name the folders by class index (0 to 999), or give --labels FILE (or a classes.txt beside them) with one "
        "class name per line"
    )


def test_numbers_beyond_the_classes_are_no_labels() -> None:
    assert labels(["1", "1000"], classes=1000) is None
    assert "('1', '1000') cannot be mapped to the 1000 classes" in folder_labels(["1", "1000"], None, 1000).note


def test_a_file_says_which_folder_is_which_class() -> None:
    assert labels(["dog", "cat", "dog"], ["bird", "cat", "horse", "dog"], 1000) == [3, 1, 3]
    assert labels(["n01443537"], ["n01440764 tench, Tinca tinca", "n01443537 goldfish"]) == [1]


def test_a_folder_that_the_file_does_not_name_is_refused() -> None:
    words = "folder 'ant', 'bee' is not among the 2 class names; rename it, or add it to their file, one name per line"
    with pytest.raises(SamplesError, match=re.escape(words)):
        labels(["bee", "cat", "ant"], ["cat", "dog"])


def test_images_of_no_folder_have_no_labels_and_nothing_is_said() -> None:
    for folders in (["", "a"], ["photos", "photos"]):
        found = folder_labels(folders, None, 10)
        assert found.labels is None
        assert not found.note


def test_class_names_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\n great dane \n\n")
    assert read_class_names(tmp_path / "names.txt") == ("cat", "great dane")


@pytest.mark.parametrize(("text", "words"), [("\n \n", "no class names in it"), ("a\nb\na", "class 'a' appears twice")])
def test_what_names_no_classes_is_refused(text: str, words: str) -> None:
    with pytest.raises(SamplesError, match=re.escape(f"names.txt: {words}")):
        parse_class_names(text, "names.txt")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match="class names cannot be read"):
        read_class_names(tmp_path / "missing.txt")
