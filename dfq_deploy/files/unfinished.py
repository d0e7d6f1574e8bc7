"""The folder of an unfinished synthesis: name it, recognize it, remove it."""

import shutil
from pathlib import Path

from dfq_deploy.errors import OutputError
from dfq_deploy.files.staging import is_staged

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
        # The facts go last: a run that is killed here leaves a folder that is known to be ours.
        for path in [path for path in folder.iterdir() if path.name != FACTS]:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.rmtree(folder)


def _is_ours(folder: Path) -> bool:
    """True with our file of facts, or with nothing but temporary files, of a run that was killed before it wrote it."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    return (folder / FACTS).is_file() or all(is_staged(file) for file in folder.iterdir())
