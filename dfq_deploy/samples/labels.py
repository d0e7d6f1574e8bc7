"""Class labels from folder names and from files of class names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError

__all__ = ["CLASS_FILES", "FolderLabels", "folder_labels", "parse_class_names", "read_class_names"]

CLASS_FILES = ("classes.txt", "labels.txt")
"""Files in the top folder of a set that name its classes: one per line, in the order of the model's scores."""

LISTED = 3
"""Number of folders that a message lists."""


@dataclass(frozen=True, eq=False)
class FolderLabels:
    """Labels of images from the names of their folders.

    Args:
        labels: int64 (N,); None if there are none, or if they cannot be mapped to the model's classes.
        note: the reason why they cannot be mapped; else empty.
    """

    labels: NDArray[np.int64] | None
    note: str = ""


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read class names from a text file, one per line, in the order of the model's scores.

    Raises:
        SamplesError: the file cannot be read, or has no name.
    """
    try:
        return parse_class_names(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as problem:
        raise SamplesError(
            f"{path}: class names cannot be read ({_reason(problem)}); give a text file, one name per line"
        ) from None


def _reason(problem: OSError | UnicodeDecodeError) -> str:
    return "not a text file" if isinstance(problem, UnicodeDecodeError) else str(problem.strerror)


def parse_class_names(text: str, place: str) -> tuple[str, ...]:
    """Parse class names from the lines of ``text``; ``place`` names it in errors.

    Raises:
        SamplesError: there is no name, or one appears twice.
    """
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not any(names):
        raise SamplesError(f"{place}: no class names in it; write one per line, in the order of the model's scores")
    repeated = next((name for index, name in enumerate(names) if name and name in names[:index]), None)
    if repeated is not None:
        raise SamplesError(f"{place}: class '{repeated}' appears twice; each line names one class of its own")
    return names


def folder_labels(folders: Sequence[str], names: Sequence[str] | None, classes: int | None) -> FolderLabels:
    """Determine the labels of images in ``folders``, one entry per image.

    Rules, the first that applies: (1) with ``names``, the line that is the folder's name, or begins with it as a word
    (``n01440764 tench``); (2) folder names that are numbers are the labels, if the model has such classes; (3) images
    in the top folder, or all in one folder, have no labels; (4) the rank of the folder's name in sorted order, if there
    is one folder for each class of the model.

    Args:
        names: class names in the order of the model's scores; None if no file lists them.
        classes: number of classes of the model; None if unknown, (2) and (4) then do not check it.

    Raises:
        SamplesError: a folder is not among ``names``.
    """
    unique = sorted(set(folders))
    if names is not None:
        return FolderLabels(_by_name(folders, unique, names))
    if all(folder_name.isascii() and folder_name.isdecimal() for folder_name in unique):
        labels = np.asarray([int(folder) for folder in folders], np.int64)
        valid = classes is None or labels.max() < classes
        return FolderLabels(labels) if valid else FolderLabels(None, _mismatch(unique, classes))
    if "" in unique or len(unique) == 1:
        return FolderLabels(None)
    if classes is not None and len(unique) != classes:
        return FolderLabels(None, _mismatch(unique, classes))
    ranks = {folder_name: rank for rank, folder_name in enumerate(unique)}
    return FolderLabels(np.asarray([ranks[folder] for folder in folders], np.int64))


def _by_name(folders: Sequence[str], folder_names: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    lines = {name.split(maxsplit=1)[0]: line for line, name in enumerate(names) if name}
    lines |= {name: line for line, name in enumerate(names) if name}
    unknown = [folder for folder in folder_names if folder not in lines]
    if unknown:
        raise SamplesError(
            f"folder {_abbreviated(unknown)} is not among the {len(names)} class names; rename it, or add it to their "
            "file, one name per line in the order of the model's scores"
        )
    return np.asarray([lines[folder] for folder in folders], np.int64)


def _mismatch(folder_names: Sequence[str], classes: int | None) -> str:
    return (
        f"labels: the {len(folder_names)} folders ({_abbreviated(folder_names)}) cannot be mapped to the {classes} "
        f"classes of the model, so there is no top-1; name the folders by class index (0 to {(classes or 1) - 1}), or "
        f"give --labels FILE (or a {CLASS_FILES[0]} beside them) with one class name per line"
    )


def _abbreviated(folder_names: Sequence[str]) -> str:
    listed = ", ".join(f"'{folder}'" for folder in folder_names[:LISTED])
    return listed if len(folder_names) <= LISTED else f"{listed} and {len(folder_names) - LISTED} more"
