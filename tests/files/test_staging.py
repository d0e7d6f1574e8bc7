"""Temporary files of runs that were killed are removed; those of a run that goes on stay."""

import subprocess
import sys
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import pytest

from dfq_deploy.errors import OutputError
from dfq_deploy.files.claim import claimed
from dfq_deploy.files.overwriting import refuse_overwriting
from dfq_deploy.files.staging import staged_file, staged_folder
from dfq_deploy.files.unfinished import FACTS, refuse_foreign, remove_unfinished, unfinished_beside

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks that end with the process")


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    file, folder = tmp_path / ".a.txt.dfq-dead", tmp_path / ".a.txt.dfq-dead-folder"
    file.write_text("half")
    folder.mkdir()
    (folder / "part").write_text("half")
    others = [tmp_path / ".b.txt.dfq-other", tmp_path / ".a.txt.swp", tmp_path / "a.txt"]
    for path in others:
        path.write_text("not ours")
    with staged_file(tmp_path / "a.txt"):
        pass
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    """The lock belongs to the open file, so that a second one in this process is refused as one of another is."""
    with staged_folder(tmp_path, "a") as running, staged_folder(tmp_path, "a") as second:
        assert running.is_dir()
        assert second != running
    assert list(tmp_path.iterdir()) == []


def test_two_runs_cannot_write_to_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "out"
    script = f"""
from pathlib import Path
from dfq_deploy.files.claim import claimed
with claimed(Path({str(place)!r})):
    print("claimed", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "claimed\n"
        with pytest.raises(OutputError, match=r"another run writes .*out"), claimed(place):
            pytest.fail("the block must not be entered")
        with claimed(tmp_path / "elsewhere"):
            pass
        other.kill()
    with claimed(place):
        pass


def test_without_a_cache_folder_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with claimed(tmp_path / "out"), claimed(tmp_path / "out"):
        pass


def test_inputs_are_not_overwritten(tmp_path: Path) -> None:
    model, link, other = tmp_path / "m.onnx", tmp_path / "link.onnx", tmp_path / "other"
    model.write_text("")
    link.symlink_to(model)
    refuse_overwriting([tmp_path / "new", other], [model, None, 3])
    for output in (model, link):
        with pytest.raises(OutputError, match="it is read by this command"):
            refuse_overwriting([output], [other, str(model)])


def test_a_foreign_folder_stays(tmp_path: Path) -> None:
    foreign, ours = tmp_path / "a.unfinished", tmp_path / "b.unfinished"
    for folder, name in ((foreign, "thesis.txt"), (ours, FACTS)):
        folder.mkdir()
        (folder / name).write_text("")
    refuse_foreign(ours)
    refuse_foreign(tmp_path / "missing")
    with pytest.raises(OutputError, match="it holds something else"):
        refuse_foreign(foreign)
    young = tmp_path / "c.unfinished"
    young.mkdir()
    (young / f".{FACTS}.dfq-of-a-killed-run").write_text("")
    refuse_foreign(young)
    for folder in (foreign, ours, young, tmp_path / "missing"):
        remove_unfinished(folder)
    assert list(tmp_path.iterdir()) == [foreign]


def test_the_unfinished_folder_of_any_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work/deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work/deep")
    assert unfinished_beside(Path("out")) == Path("out.unfinished")
    assert unfinished_beside(Path()) == tmp_path / "work/deep.unfinished"
    assert unfinished_beside(Path("..")) == tmp_path / "work.unfinished"
    assert unfinished_beside(Path("/")) == Path("/dfq-deploy.unfinished")


def test_one_that_is_taken_for_a_dead_one_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run that looks for temporary files of killed runs comes between the creation and the lock."""
    made: list[Path] = []

    def create(**settings: Any) -> tuple[int, str]:
        handle, name = mkstemp(**settings)
        made.append(Path(name))
        if len(made) == 1:
            made[0].unlink()
        return handle, name

    monkeypatch.setattr("tempfile.mkstemp", create)
    with staged_file(tmp_path / "a.txt") as partial:
        assert partial == made[1]
    assert list(tmp_path.iterdir()) == []
