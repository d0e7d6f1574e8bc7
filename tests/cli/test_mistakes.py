"""Plausible mistakes, each answered in one line that names the place, the value and the way out."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import helper
from PIL import Image

from dfq_deploy.cli.main import main

Model = Callable[..., onnx.ModelProto]

TABLE = Path(__file__).parent / "mistakes.txt"
"""Headings with an exit status: 1, something is wrong with a file; 2, with the command line, whatever the files hold.
Below them, a line with the command and an indented line with the error, in turn; ``*`` stands for some words."""


def _mistakes() -> Iterator[tuple[int, str, str]]:
    status, command = 0, ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            status = int(line.split()[-1])
        elif line.startswith("    "):
            yield status, command, line.strip()
        else:
            command = line


MISTAKES = list(_mistakes())


@pytest.fixture(scope="module")
def folder(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, images and arrays, most of them of the wrong kind."""
    place = tmp_path_factory.mktemp("mistakes")
    _write_models(place, tiny)
    _write_images(place)
    _write_arrays(place)
    texts = {
        "text.onnx": "this is text\n", "names.txt": "a\nb\nc\n", "twice.txt": "a\nb\na\nc\n", "bad.npz": "no zip",
        "encodings.json": "not JSON", "fail.py": "import nothing_there\n", "metric.py": "def f1(*_): return 1.0\n",
        "key.toml": '[[node]]\nmatch = "conv"\nbit = 4\n', "node.toml": '[[node]]\nmatch = "konv"\nbits = 4\n',
        "no.toml": "[[node]\n",
    }  # fmt: skip
    for name, text in texts.items():
        (place / name).write_text(text)
    return place


def _write_models(place: Path, tiny: Model) -> None:
    onnx.save(tiny(), place / "net.onnx")
    onnx.save(tiny(normalized=False), place / "folded.onnx")
    onnx.save(tiny(size=16), place / "large.onnx")
    onnx.save(tiny(classes=7), place / "seven.onnx")
    quantized = tiny()
    quantized.graph.node[0].input[0] = "rounded"
    quantized.graph.node.insert(0, helper.make_node("DequantizeLinear", ["b", "s", "z"], ["rounded"]))
    quantized.graph.node.insert(0, helper.make_node("DynamicQuantizeLinear", ["image"], ["b", "s", "z"], "round"))
    onnx.save(quantized, place / "int8.onnx")
    (place / "short.onnx").write_bytes((place / "net.onnx").read_bytes()[:-200])
    (place / "empty.onnx").write_bytes(b"")
    (place / "models").mkdir()
    torch.save({"weight": torch.zeros(2)}, place / "net.pt")


def _write_images(place: Path) -> None:
    for name in ("empty", "texts", "broken", "deep", "photos/a", "photos/b"):
        (place / name).mkdir(parents=True)
    (place / "texts/readme.md").write_text("no picture")
    (place / "broken/a.png").write_text("no picture")
    Image.fromarray(np.full((8, 8), 100000, np.int32)).save(place / "deep/a.tif")
    for name in ("photos/a/1.png", "photos/b/1.png", "photo.jpg"):
        Image.new("RGB", (8, 8)).save(place / name)


def _write_arrays(place: Path) -> None:
    def array(*shape: int, fill: float = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.full(shape, fill, np.float32)

    np.savez(place / "wide.npz", images=array(4, 3, 9, 9))
    np.savez(place / "last.npz", images=array(4, 8, 8, 3))
    np.savez(place / "key.npz", x=array(4, 3, 8, 8))
    np.savez(place / "nan.npz", images=array(4, 3, 8, 8, fill=np.nan))
    np.savez(place / "none.npz", images=array(0, 3, 8, 8))
    np.savez(place / "bytes.npz", images=np.zeros((4, 3, 8, 8), np.uint8))
    np.savez(place / "complex.npz", images=np.zeros((4, 3, 8, 8), np.complex64))
    np.savez(place / "few.npz", images=array(4, 3, 8, 8), labels=np.zeros(3, np.int64))
    np.savez(place / "high.npz", images=array(4, 3, 8, 8), labels=np.full(4, 9))
    np.save(place / "words.npy", np.array(["a", "b"]))


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder as the current one; a mistake leaves nothing in it."""
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    yield folder
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("status", "command", "wanted"), MISTAKES, ids=[command for _, command, _ in MISTAKES])
def test_a_mistake_is_answered_in_one_line(here: Path, status: int, command: str, wanted: str) -> None:
    result = CliRunner().invoke(main, [*shlex.split(command), "--json"])
    (line,) = result.stderr.splitlines()
    pattern = ".*".join(re.escape(part) for part in wanted.split("*"))
    assert re.fullmatch(f"error: {pattern}", line), line
    assert result.exit_code == status
    assert json.loads(result.stdout)["error"] == line.removeprefix("error: ")


def test_there_are_enough_of_them() -> None:
    assert len(MISTAKES) >= 54
