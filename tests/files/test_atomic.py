"""Files appear whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dfq_deploy.errors import OutputError
from dfq_deploy.files.atomic import atomic_file, atomic_files, atomic_folder, check_writable


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "result.txt"
    with atomic_file(target) as partial:
        partial.write_text("whole")
        assert partial.parent == target.parent
        assert partial.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_where_the_block_raises(tmp_path: Path, interruption: type[BaseException]) -> None:
    def interrupted() -> None:
        with atomic_file(tmp_path / "result.txt") as partial:
            partial.write_text("hal")
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept_where_the_block_raises(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_file(target) as partial:
            partial.write_text("hal")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    with atomic_file(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_result_can_be_read_by_whom_a_plain_file_can(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "result.txt") as partial:
            partial.write_text("whole")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.txt").stat().st_mode) == 0o640


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with (
        pytest.raises(OutputError, match=r"^cannot write .*result\.txt: .+; choose another place with -o$"),
        atomic_file(tmp_path / "taken" / "result.txt"),
    ):
        pytest.fail("the block must not be entered")


def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Mode bits would not stop a test that runs as root.
    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with (
        pytest.raises(OutputError, match="Permission denied; choose another place with -o"),
        atomic_file(tmp_path / "a"),
    ):
        pytest.fail("the block must not be entered")


def test_folder_in_the_way_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "result.txt").mkdir()
    with (
        pytest.raises(OutputError, match=r"^cannot write .*result\.txt: "),
        atomic_file(tmp_path / "result.txt") as partial,
    ):
        partial.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["result.txt"]


def test_disk_that_is_full(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left on device"), atomic_file(tmp_path / "result.txt"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_folder_of_results_appears_when_all_are_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "results"
    with atomic_folder(target) as partial:
        (partial / "a").write_text("1")
        assert not target.exists()
        (partial / "b").write_text("2")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "1", "b": "2"}
    assert list(target.parent.iterdir()) == [target]


def test_folder_of_results_stays_as_it_was_where_the_block_raises(tmp_path: Path) -> None:
    target = tmp_path / "results"
    target.mkdir()
    (target / "a").write_text("old")

    def interrupted() -> None:
        with atomic_folder(target) as partial:
            (partial / "a").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "old"}
    assert list(tmp_path.iterdir()) == [target]


def test_new_results_replace_old_ones_and_leave_other_files_alone(tmp_path: Path) -> None:
    target = tmp_path / "results"
    target.mkdir()
    (target / "a").write_text("old")
    (target / "notes.txt").write_text("the user's own")
    with atomic_folder(target) as partial:
        (partial / "a").write_text("new")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "new", "notes.txt": "the user's own"}


def test_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with (
        pytest.raises(OutputError, match=r"^cannot write into .*results: it is not a writable folder"),
        atomic_folder(tmp_path / "results"),
    ):
        pytest.fail("the block must not be entered")
    assert (tmp_path / "results").read_text() == "a file"
    with pytest.raises(OutputError, match=r"^cannot write .*deeper: "), atomic_folder(tmp_path / "results" / "deeper"):
        pytest.fail("the block must not be entered")


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_probe_finds_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file/out", tmp_path / "file/deep/out"):
        with pytest.raises(OutputError, match=f"cannot write {place}: Not a directory; choose another place with -o"):
            check_writable(place)


def test_an_interrupt_while_the_files_move_comes_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return move(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    before = signal.getsignal(signal.SIGINT)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/notes.txt").write_text("the user's own")
    with atomic_folder(tmp_path / "results") as partial:
        for name in "abc":
            (partial / name).write_text(name)
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["a", "b", "c", "notes.txt"]
    assert signal.getsignal(signal.SIGINT) is before


def test_results_can_be_staged_in_any_thread(tmp_path: Path) -> None:
    def work() -> None:
        with atomic_folder(tmp_path / "results") as partial:
            (partial / "a").write_text("a")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (tmp_path / "results/a").read_text() == "a"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_folder_of_nothing_but_results_is_exchanged_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks into it sees the old result or the new one."""
    target = tmp_path / "results"
    target.mkdir()
    (target / "a").write_text("old")
    (target / "b").write_text("stale")
    monkeypatch.setattr(Path, "replace", lambda *_: pytest.fail("moved one by one"))
    with atomic_folder(target, stale=("b",)) as partial:
        (partial / "a").write_text("new")
    assert contents(target) == {"a": "new"}
    assert list(tmp_path.iterdir()) == [target]


def test_stale_files_go_and_the_users_own_stay(tmp_path: Path) -> None:
    target = tmp_path / "results"
    target.mkdir()
    for name in ("a", "b", "notes.txt"):
        (target / name).write_text("old")
    with atomic_folder(target, stale=("a", "b")) as partial:
        (partial / "a").write_text("new")
    assert contents(target) == {"a": "new", "notes.txt": "old"}


@pytest.mark.parametrize("why", ["mount", "working folder"])
def test_a_folder_that_cannot_be_exchanged_is_staged_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Between a mount point and the folder above it no file can be renamed."""
    target = tmp_path / "results"
    target.mkdir()
    (target / "a").write_text("old")
    if why == "mount":
        monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == target)
    else:
        monkeypatch.chdir(target)
    with atomic_folder(target) as partial:
        assert partial.parent == target
        (partial / "a").write_text("new")
    assert contents(target) == {"a": "new"}
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/real").write_text("old")
    (tmp_path / "link").symlink_to("deep/real")
    with atomic_file(tmp_path / "link") as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "deep/real").read_text() == "new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no devices in folders")
def test_a_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not a plain file"), atomic_file(tmp_path / "pipe"):
        pytest.fail("the block must not be entered")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_writer_that_fails_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save raises a RuntimeError that does not say so."""

    def fail() -> None:
        with atomic_file(tmp_path / "state.pt"):
            raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        fail()
    monkeypatch.setattr("dfq_deploy.files.atomic._free", lambda folder: 0)
    with pytest.raises(OutputError, match="No space left on device"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_called_that_though_torch_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words are those of torch.save on a disk of 48 kB, and others of it on one of 4 MB."""
    for words in ("[enforce fail at inline_container.cc:672] . unexpected pos 6272 vs 6160", "file write failed"):
        monkeypatch.setattr("dfq_deploy.files.atomic._free", lambda _: 0)
        with pytest.raises(OutputError, match="No space left on device"), atomic_file(tmp_path / "state.pt"):
            raise RuntimeError(words)
        monkeypatch.setattr("dfq_deploy.files.atomic._free", lambda _: 2**40)
        with pytest.raises(RuntimeError, match=r"unexpected|failed"), atomic_file(tmp_path / "state.pt"):
            raise RuntimeError(words)
    assert list(tmp_path.iterdir()) == []


def test_other_files_of_the_folder_go_along_with_the_exchange(tmp_path: Path) -> None:
    target = tmp_path / "results"
    (target / "deep").mkdir(parents=True)
    for name in ("a", "stale", "notes.txt", "deep/photo.jpg"):
        (target / name).write_text("old")
    (target / "link").symlink_to("notes.txt")
    before = target.stat().st_ino
    with atomic_folder(target, stale=("stale",)) as partial:
        (partial / "a").write_text("new")
    if sys.platform == "linux":
        assert target.stat().st_ino != before  # exchanged as a whole
    assert {path.name for path in target.iterdir()} == {"a", "notes.txt", "deep", "link"}
    assert (target / "a").read_text() == "new"
    assert (target / "deep/photo.jpg").read_text() == "old"
    assert (target / "link").readlink() == Path("notes.txt")
    assert list(tmp_path.iterdir()) == [target]


KILLED_AT_A_MOVE = """
import os, signal, sys
from pathlib import Path
from dfq_deploy.files import atomic

allowed = int(sys.argv[2])
def counted(plain):
    def run(*arguments, **named):
        global allowed
        if not allowed:
            os.kill(os.getpid(), signal.SIGKILL)
        allowed -= 1
        return plain(*arguments, **named)
    return run

place = Path(sys.argv[1])
def fill(folder):
    for name in ("main", "companion"):
        (folder / name).write_text("new")

files = sys.argv[3] == "files"
with atomic.atomic_files(place / "main") if files else atomic.atomic_folder(place, seal="main") as folder:
    fill(folder)
    if sys.argv[3] == "mount":
        atomic._exchange = lambda one, other: False
    for name in ("replace", "unlink", "rename"):
        setattr(Path, name, counted(getattr(Path, name)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize(("kind", "moves"), [("files", 3), ("mount", 3), ("folder", 1)])
def test_killed_between_the_moves(tmp_path: Path, kind: str, moves: int) -> None:
    """The main file is never beside another one's companion; a folder that can be exchanged is old or new."""
    for allowed in range(moves + 1):
        place = tmp_path / str(allowed)
        place.mkdir()
        for name in ("main", "companion"):
            (place / name).write_text("old")
        command = [sys.executable, "-c", KILLED_AT_A_MOVE, str(place), str(allowed), kind]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = {path.name: path.read_text() for path in place.iterdir() if path.is_file()}
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        if kind == "folder":
            assert found in ({"main": "old", "companion": "old"}, {"main": "new", "companion": "new"})
        else:
            assert len(set(found.values())) == 1 or "main" not in found
        with atomic_files(place / "main") if kind == "files" else atomic_folder(place) as folder:
            (folder / "main").write_text("next")
        assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_companions_of_an_earlier_file_go(tmp_path: Path) -> None:
    for name in ("s.npz", "s.png", "mine.png"):
        (tmp_path / name).write_text("old")
    with atomic_files(tmp_path / "s.npz", (tmp_path / "s.png",)) as folder:
        (folder / "s.npz").write_text("new")
        assert (tmp_path / "s.png").read_text() == "old"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"s.npz": "new", "mine.png": "old"}
    with pytest.raises(OutputError, match="it is a folder; name a file with -o"), atomic_files(tmp_path):
        pytest.fail("the block must not be entered")


def test_an_error_names_the_place_of_the_result(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=rf"^cannot write {tmp_path}/out/report\.json: No space left"),
        atomic_folder(tmp_path / "out") as folder,
        atomic_file(folder / "report.json"),
    ):
        raise OSError(28, "No space left on device")
