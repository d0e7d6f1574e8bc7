"""The commands of the documents: every shell block runs, on small files with the names that the pages use."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dfq_deploy import calibrate
from dfq_deploy.cli import main
from dfq_deploy.synthesis.methods.noise import Noise
from examples.digits import data
from tests.conftest import TinyModel
from tests.pages import CHECKOUT, LANGUAGES, PAGES, Block, blocks, expected, relative

BY_HAND = {
    "docs/ci-gate.md": "tests/test_docs.py runs its commands, on digits",
    "docs/plans.md": "tests/cli/plans runs plans of small models",
    "docs/detectors.md": "tests/evaluation/detection/test_map_metric.py runs --metric map, on a detector",
}
"""Pages whose commands other tests run, and which."""

LEFT_AS_THEY_ARE = {"README.md", "docs/quickstart.md"}
"""Pages that show what their commands print, at full length."""

SIDE = 16
"""Pixels of a side, in place of the pages' 224 and 320."""

SHORTER = {
    "calibrate": ["--samples", "8"],
    "finetune": ["--samples", "16", "--epochs", "1"],
    "synthesize": ["--samples", "8"],
    "evaluate": ["--samples", "8"],
}
"""What is added to a command, for speed, unless it is stated."""


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES or block.language.startswith("{"), f"name the language of: {block.code}"
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"^(?:[^-\d ].*)?\n\n {4}(\S.*)$", prose, re.MULTILINE):
        assert re.search(r"^(- |\d+\. )", prose, re.MULTILINE), f"put three backticks around: {code}"


def _pages() -> list[Path]:
    found = [page for page in PAGES if any(block.language == "sh" and not block.not_run for block in blocks(page))]
    return [page for page in found if relative(page) not in BY_HAND]


@pytest.fixture(scope="module")
def files(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of."""
    return _files(tiny(size=SIDE), tmp_path_factory.mktemp("files"))


def _files(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "model.onnx")
    calibrate(model, synth=Noise(), count=8, output=folder / "model-cpu")
    for name in ("model.qdq.onnx", "theirs.onnx"):
        shutil.copy(folder / "model-cpu/model.qdq.onnx", folder / name)
    calibrate(model, synth=Noise(), count=8, target="tensorrt", output=folder / "tensorrt")
    shutil.copy(folder / "tensorrt/calibration.cache", folder / "old.cache")
    rng = np.random.default_rng(0)
    for name in ("photos", "images", "validation"):
        for index in range(8):
            path = folder / name / f"{index % 4}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)
    (folder / "labels.txt").write_text("cat\ndog\nship\ntruck\n")
    return folder


@pytest.fixture
def there(request: pytest.FixtureRequest, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's own folder, entered."""
    page: Path = request.param
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    shutil.copytree(CHECKOUT / "examples", tmp_path / "examples")
    for block in blocks(page):
        if block.language == "toml":
            (tmp_path / "overrides.toml").write_text(block.code)
    monkeypatch.chdir(tmp_path)
    return page


@pytest.mark.parametrize("there", _pages(), ids=relative, indirect=True)
def test_shell_blocks_run(there: Path) -> None:
    printed = ""
    page = blocks(there)
    for block, after in zip(page, [*page[1:], Block("", "", 0)], strict=True):
        if block.language == "sh" and not block.not_run and (not block.needs or find_spec(block.needs)):
            refused = after.language == "text" and after.code.startswith("error:")
            printed = "".join(_run(line, there, refused) for line in _lines(block.code))
            if after.language == "text":
                missing = expected(after.code, printed)
                assert missing is None, f"not printed: {missing}\n{printed}"


def _lines(code: str) -> list[str]:
    lines = (line.partition("  #")[0].strip() for line in code.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _run(line: str, page: Path, refused: bool) -> str:
    """What a command prints.

    Raises:
        AssertionError: it ends as it should not, or it is none that can be run here.
    """
    program, *arguments = shlex.split(re.sub(r"\b(224|320)\b", str(SIDE), line))
    assert program in ("dfq-deploy", "python"), f"{line}: not run here; say why above its block"
    if program == "python":
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout
    result: Result = CliRunner().invoke(main, _shortened(arguments, page), env={"COLUMNS": "120"})
    # check says what another tool's file breaks.
    fine = (1, 2) if refused else (0, 1) if arguments[0] == "check" else (0, 3)
    assert result.exit_code in fine, f"{line}\n{result.output}"
    return result.output


def _shortened(arguments: list[str], page: Path) -> list[str]:
    if relative(page) in LEFT_AS_THEY_ARE:
        return arguments
    added = SHORTER.get(arguments[0], [])
    if added and added[0] not in arguments:
        arguments = [*arguments, *added]
    if "deepinversion" in arguments:
        arguments = [*arguments, "--option", "iterations=1"]
    return arguments


def test_what_a_page_shows_is_compared_without_its_figures() -> None:
    printed = "model.onnx\n  size  1.25 MB,\n        400 kB in INT8\nOK: 99.7 % (99.1 to 99.9)\n"
    assert expected("size 4 MB, 1 kB in INT8\n...\nOK: 1 % (...)", printed) is None
    assert expected("OK: 1 %\nsize", printed) == "size"
    assert expected("BAD: 1 %", printed) == "BAD: 1 %"
    for words in ("slower than", "about as fast as"):
        slow = f"CHECK: {words} float: 0.124 ms against 0.111 ms"
        assert expected("OK: 1 %", slow) is None
        assert expected("size", slow) == "size"


def test_the_held_out_digits_are_those_of_the_example() -> None:
    pictures = data.held_out()
    with np.load(CHECKOUT / "examples/digits/held_out.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], pictures.images)
        np.testing.assert_array_equal(arrays["labels"], pictures.labels)
