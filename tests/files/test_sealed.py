"""The state of an interrupted run is what was written, or is refused."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from dfq_deploy.errors import OutputError, SamplesError
from dfq_deploy.files.sealed import Damaged, read_document, read_state, write_document, write_state
from dfq_deploy.qat.checkpoints import Checkpoints
from dfq_deploy.samples.samples import Samples
from dfq_deploy.synthesis.inversion.journal import FolderJournal

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "step": 7}


def test_a_state_comes_back(tmp_path: Path) -> None:
    write_state(tmp_path / "a.pt", STATE)
    read = read_state(tmp_path / "a.pt")
    assert torch.equal(read["weight"], STATE["weight"])  # type: ignore[arg-type]
    assert read["step"] == 7
    write_document(tmp_path / "a.json", {"lr": 0.1, "names": ["é"]})
    assert read_document(tmp_path / "a.json") == {"lr": 0.1, "names": ["é"]}


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut(path: Path, place: int) -> None:
    path.write_bytes(path.read_bytes()[:place])


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_changed_file_is_refused(tmp_path: Path, damage: Callable[[Path, int], None]) -> None:
    write_state(tmp_path / "whole.pt", STATE)
    length = (tmp_path / "whole.pt").stat().st_size
    for place in range(0, length, 97):
        (tmp_path / "a.pt").write_bytes((tmp_path / "whole.pt").read_bytes())
        damage(tmp_path / "a.pt", place)
        with pytest.raises(Damaged):
            read_state(tmp_path / "a.pt")
    write_document(tmp_path / "whole.json", {"step": 7, "name": "image"})
    for place in range((tmp_path / "whole.json").stat().st_size - 1):
        (tmp_path / "a.json").write_bytes((tmp_path / "whole.json").read_bytes())
        damage(tmp_path / "a.json", place)
        with suppress(Damaged):
            assert read_document(tmp_path / "a.json") == {"step": 7, "name": "image"}  # a space became another
    for text in ("[]", "null", "[" * 100_000, "", '{"sha256": 3}'):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(Damaged):
            read_document(tmp_path / "a.json")


def test_resuming_from_changed_files_is_refused_in_one_line(tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path / "j", {"seed": 0})
    journal.save_batch(0, STATE)
    flip(tmp_path / "j/batch-00000.pt", 300)
    with pytest.raises(SamplesError, match=r"^--resume: .*batch-00000\.pt cannot be read \(its checksum is another"):
        FolderJournal(tmp_path / "j", {"seed": 0}, resume=True).load_batch(0)
    (tmp_path / "j/facts.json").write_text("[]")
    with pytest.raises(SamplesError, match=r"^--resume: .*facts\.json cannot be read \(it holds no entries\)"):
        FolderJournal(tmp_path / "j", {"seed": 0}, resume=True)
    checkpoints = Checkpoints(tmp_path, {"lr": 0.1})
    checkpoints.begin(Samples(torch.zeros(2, 3).numpy()))
    checkpoints.save(STATE)
    flip(checkpoints.paths[2], 300)
    with pytest.raises(OutputError, match=r"checkpoint\.pt: the checkpoint cannot be read \(its checksum is another"):
        checkpoints.state()
    checkpoints.paths[0].write_text("{}")
    with pytest.raises(SamplesError, match=r"checkpoint\.json: the checkpoint cannot be read"):
        checkpoints.samples()
