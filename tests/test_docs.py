"""The documents: their Python blocks run, their links lead somewhere, their tables name what there is."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from PIL import Image

from dfq_deploy import Samples, calibrate
from dfq_deploy.cli import main
from dfq_deploy.synthesis.methods.noise import Noise
from examples.digits import data
from tests.conftest import CHECKOUT, TinyModel
from tests.pages import PAGES, Block, blocks, relative
from tests.test_architecture import ORDER


def _program(page: Path) -> str:
    """The page with everything but its Python blocks blanked, so that line numbers are those of the page.

    A block behind ``<!-- needs: MODULE -->`` is left out where there is no such module.
    """
    text, program, end = page.read_text(encoding="utf-8"), "", 0
    for block in _python(page):
        program += "\n" * text.count("\n", end, block.start)
        absent = block.needs != "" and importlib.util.find_spec(block.needs) is None
        program += "\n" * block.code.count("\n") if absent else block.code
        end = block.start + sum(map(len, block.code.splitlines(keepends=True)))
    return program


def _python(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python" and not block.not_run]


QUICK_METHOD = ('synth="deepinversion"', 'synth="noise", count=16')

SHORTER = {
    "docs/calibrate.md": [QUICK_METHOD],
    "docs/fewer-bits.md": [QUICK_METHOD, ("steps=4000, batch=128", "steps=4, batch=16")],
}
"""What is exchanged in a page's program, for speed."""


def _with_code() -> list[str]:
    return [relative(page) for page in PAGES if _python(page)]


@pytest.fixture(scope="module")
def examples(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("docs")
    onnx.save(tiny(), folder / "model.onnx")
    photos = tiny(size=224)
    photos.graph.input[0].name = photos.graph.node[0].input[0] = "input"
    calibrate(photos, synth=Noise(), count=8, output=folder / "result", integer_io=True)
    shutil.copy(folder / "result/model.integer.onnx", folder)
    calibrate(CHECKOUT / "examples/digits/digits_bn.onnx", synth=Noise(), count=8, output=folder / "int8")
    (folder / "photos").mkdir()
    for index in range(2):
        Image.new("RGB", (300, 260), (80 * index, 90, 120)).save(folder / f"photos/{index}.png")
    return folder


@pytest.mark.parametrize("name", _with_code())
def test_python_blocks_run(name: str, examples: Path, tmp_path: Path) -> None:
    page = CHECKOUT / name
    program = _program(page)
    for long, short in SHORTER.get(name, ()):
        assert long in program
        program = program.replace(long, short)
    shutil.copytree(examples, tmp_path, dirs_exist_ok=True)
    (tmp_path / "page.py").write_text(program, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{name}: {run.stderr}"
    for block, after in pairwise(blocks(page)):
        between = page.read_text(encoding="utf-8")[block.start + len(block.code) : after.start]
        if block.language == "python" and after.language == "text" and "\n#" not in between:
            assert after.code in run.stdout


def test_blocks_keep_their_line_numbers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n```python\nx = 1\n```\ntext\n<!-- needs: dfq_deploy.no_such_module -->\n```python\ny = 2\n```\n\n"
        "```python\nz = 3\n```\n"
    )
    assert _program(page).splitlines() == ["", "", "", "x = 1", *[""] * 8, "z = 3"]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{link}: there is no such file"
        if anchor:
            assert anchor in _anchors(file), f"{link}: there is no such heading"


def _anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_and_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")  # lines that go on
    for name, line in re.findall(r"dfq-deploy ([a-z]+)\b([^\n`|]*)", text):
        if name not in main.commands:
            assert not line.lstrip().startswith("-"), f"dfq-deploy {name}: there is no such command"
            continue
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line):
            assert option in known, f"dfq-deploy {name}{line}: there is no option {option}"
    for module in re.findall(r"python -m ((?:benchmarks|examples)[\w.]+\w)", text):
        assert (CHECKOUT / f"{module.replace('.', '/')}.py").exists(), module


GATE = CHECKOUT / "docs/ci-gate.md"


def _runnable_commands(page: Path) -> list[list[str]]:
    """Commands of a page's blocks, with the preprocess of the digits."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    units = f"--mean {data.PREPROCESS.mean[0]} --std {data.PREPROCESS.std[0]}"
    lines = re.findall(r"^(?: +run:)? *dfq-deploy (.+)$", text, re.MULTILINE)
    return [line.replace("--preprocess imagenet", units).split() for line in lines]


@pytest.fixture
def validation(tmp_path: Path, digits_bn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the network, digits in a folder for each class, and the page's metric."""
    pictures = data.held_out()
    for index, (image, label) in enumerate(zip(pictures.images[:200], pictures.labels[:200], strict=True)):
        folder = tmp_path / f"validation/{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{index}.png")
    shutil.copy(digits_bn, tmp_path / "model.onnx")
    (tmp_path / "metric.py").write_text(_program(GATE), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_gate_s_commands_let_a_good_file_through_and_a_bad_one_not(validation: Path) -> None:
    calibration, *gates = _runnable_commands(GATE)
    assert calibration[0] == "calibrate"
    assert [command[0] for command in gates] == ["evaluate"] * 3
    first = CliRunner().invoke(main, calibration)
    assert first.exit_code == 0, first.output
    for command in gates:
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[-1].startswith("OK: --")
    nothing = Samples(np.zeros((8, 1, 16, 16), np.float32))
    calibrate("model.onnx", data=nothing, method="minmax", refine=(), floor="none", output="ruined")
    shutil.copy("ruined/model.qdq.onnx", "int8/model.qdq.onnx")
    assert [CliRunner().invoke(main, command).exit_code for command in gates] == [3, 3, 3]


ARCHITECTURE = CHECKOUT / "docs/architecture.md"


def _rows(page: Path) -> list[list[str]]:
    """Cells of every table row of a page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def test_architecture_names_what_there_is() -> None:
    named = 0
    for row in _rows(ARCHITECTURE):
        cells = " ".join(row[1:])
        for file in re.findall(r"`((?:dfq_deploy|exporters|calibrators)/[\w/.]+)`", cells):
            assert (CHECKOUT / file).exists(), f"{row[0]} {file}: there is no such file"
            for name in re.findall(r"`(\w+)`", cells.partition(f"`{file}`")[2]):
                text = (CHECKOUT / file).read_text(encoding="utf-8")
                assert re.search(rf"^ *(?:def|class) {name}\b|^{name}\b.* = ", text, re.MULTILINE), f"{file}: {name}"
                named += 1
    assert named > 40


def test_architecture_lists_the_packages_in_their_order() -> None:
    rows = [row for row in _rows(ARCHITECTURE) if row[0].isdigit()]
    assert tuple(tuple(re.findall(r"`(\w+)`", row[1])) for row in rows) == ORDER


def test_glossary_has_each_term_once_in_alphabetical_order() -> None:
    terms = [row[0].lower() for row in _rows(CHECKOUT / "docs/glossary.md")[2:]]
    assert len(terms) > 40
    assert terms == sorted(set(terms))
    assert all(row[1].endswith(".") for row in _rows(CHECKOUT / "docs/glossary.md")[2:])
