"""The folder of an unfinished synthesis: name it, recognize it, remove it."""

import shutil
from pathlib import Path

from dfq_deploy.errors import OutputError

__all__ = ["FACTS", "refuse_foreign", "remove_unfinished", "unfinished_beside"]

FACTS = "facts.json"
"""The file that every such folder has."""


def unfinished_beside(output: Path) -> Path:
    """The folder for the unfinished work on ``output``, beside it; inside where nothing is beside it."""
    place = output if output.name not in ("", "..") else output.resolve()
    return place.with_name(f"{place.name}.unfinished") if place.name else place / "dfq-deploy.unfinished"


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder of that name that holds something else.

    Raises:
        OutputError: it does.
    """
    if folder.exists() and not _is_ours(folder):
        raise OutputError(
            f"{folder}: this name is needed for an unfinished synthesis, and it holds something else; move it away, or "
            "choose another place with -o"
        )


def remove_unfinished(folder: Path) -> None:
    """Remove the folder, when the samples are written or nothing in it can be resumed; a foreign one stays."""
    if folder.exists() and _is_ours(folder):
        shutil.rmtree(folder)


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and ((folder / FACTS).is_file() or not any(folder.iterdir()))
