"""Class labels from the folders that images lie in, and from files of class names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfq_deploy.errors import SamplesError

__all__ = ["CLASS_FILES", "FolderLabels", "folder_labels", "parse_class_names", "read_class_names"]

CLASS_FILES = ("classes.txt", "labels.txt")
"""Files at the top of a set that name its classes: one a line, in the order of the model's scores."""

SHOWN = 3
"""Folders that a message names."""


@dataclass(frozen=True, eq=False)
class FolderLabels:
    """Labels of images by the folders that they lie in.

    Args:
        labels: int64 (N,); None where there are none, or where they are not known to be the model's.
        note: why they are not; empty where there is nothing to say.
    """

    labels: NDArray[np.int64] | None
    note: str = ""


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line, in the order of the model's scores.

    Raises:
        SamplesError: it cannot be read, or holds no name.
    """
    try:
        return parse_class_names(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as problem:
        raise SamplesError(
            f"{path}: class names cannot be read ({problem}); give a text file, one name a line"
        ) from None


def parse_class_names(text: str, place: str) -> tuple[str, ...]:
    """Class names from the lines of ``text``; ``place`` is what errors call it.

    Raises:
        SamplesError: there is none, or one appears twice.
    """
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not any(names):
        raise SamplesError(f"{place}: no class names in it; write one a line, in the order of the model's scores")
    repeated = next((name for index, name in enumerate(names) if name and name in names[:index]), None)
    if repeated is not None:
        raise SamplesError(f"{place}: class '{repeated}' appears twice; each line names one class of its own")
    return names


def folder_labels(folders: Sequence[str], names: Sequence[str] | None, classes: int | None) -> FolderLabels:
    """Labels of images that lie in ``folders``, one entry an image.

    Rules, the first that applies: (1) ``names``: the line on which the folder's name stands, whole or as the first
    word (``n01440764 tench``); (2) folders that are numbers are the labels, where the model has such classes; (3)
    images at the top, or all in one folder, have none; (4) the rank of the folder's name in sorted order, where there
    is a folder for each class of the model.

    Args:
        names: of the classes, in the order of the model's scores; None where no file names them.
        classes: how many the model has; None where that is not known, which (2) and (4) then do not ask for.

    Raises:
        SamplesError: a folder is not among ``names``.
    """
    kinds = sorted(set(folders))
    if names is not None:
        return FolderLabels(_by_name(folders, kinds, names))
    if all(kind.isascii() and kind.isdecimal() for kind in kinds):
        labels = np.asarray([int(folder) for folder in folders], np.int64)
        fits = classes is None or labels.max() < classes
        return FolderLabels(labels) if fits else FolderLabels(None, _mismatch(kinds, classes))
    if "" in kinds or len(kinds) == 1:
        return FolderLabels(None)
    if classes is not None and len(kinds) != classes:
        return FolderLabels(None, _mismatch(kinds, classes))
    ranks = {kind: rank for rank, kind in enumerate(kinds)}
    return FolderLabels(np.asarray([ranks[folder] for folder in folders], np.int64))


def _by_name(folders: Sequence[str], kinds: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    lines = {name.split(maxsplit=1)[0]: line for line, name in enumerate(names) if name}
    lines |= {name: line for line, name in enumerate(names) if name}
    unknown = [kind for kind in kinds if kind not in lines]
    if unknown:
        raise SamplesError(
            f"folder {_shown(unknown)} is not among the {len(names)} class names; rename it, or add it to their file, "
            "one name a line in the order of the model's scores"
        )
    return np.asarray([lines[folder] for folder in folders], np.int64)


def _mismatch(kinds: Sequence[str], classes: int | None) -> str:
    return (
        f"labels: the {len(kinds)} folders ({_shown(kinds)}) are not known to be classes of the model, which has "
        f"{classes}, so there is no top-1; name the folders by class index (0 to {(classes or 1) - 1}), or give "
        f"--labels FILE (or a {CLASS_FILES[0]} beside them) with one class name a line"
    )


def _shown(kinds: Sequence[str]) -> str:
    listed = ", ".join(f"'{kind}'" for kind in kinds[:SHOWN])
    return listed if len(kinds) <= SHOWN else f"{listed} and {len(kinds) - SHOWN} more"
