"""The folder of an unfinished synthesis is known as long as it is there, and no other is removed."""

from pathlib import Path

import pytest

from dfq_deploy.errors import OutputError
from dfq_deploy.files.unfinished import FACTS, refuse_foreign, remove_unfinished

FILES = (FACTS, "batch-00000.pt", "batch-00001.pt", "state.pt", "generator.pt")


class KilledError(Exception):
    """Takes the place of a signal."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "out.unfinished"
    place.mkdir()
    for name in FILES:
        (place / name).write_bytes(b"")
    return place


@pytest.mark.parametrize("calls", range(len(FILES) - 1))
def test_a_removal_that_is_killed_leaves_a_folder_that_is_ours(
    folder: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    unlink, left = Path.unlink, [calls]

    def killed(path: Path, missing_ok: bool = False) -> None:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KilledError):
            remove_unfinished(folder)
    assert len(list(folder.iterdir())) == len(FILES) - calls
    refuse_foreign(folder)
    remove_unfinished(folder)
    assert not folder.exists()


def test_a_foreign_folder_stays(folder: Path) -> None:
    (folder / FACTS).unlink()
    with pytest.raises(OutputError, match="holds something else"):
        refuse_foreign(folder)
    remove_unfinished(folder)
    assert len(list(folder.iterdir())) == len(FILES) - 1
