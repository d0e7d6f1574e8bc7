"""The notebook: its cells run in their order, and print what is stored in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.pages import CHECKOUT, expected

NOTEBOOK = CHECKOUT / "examples/quickstart.ipynb"
MARK = "---- cell {} ----"


def _cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_cells_run_and_print_what_is_stored(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(CHECKOUT / "examples")
    parts = [f"print({MARK.format(index)!r})\n{''.join(cell['source'])}" for index, cell in enumerate(_cells())]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(parts)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for index, cell in enumerate(_cells()):
        stored = "".join(line for output in cell["outputs"] for line in output["text"])
        printed = run.stdout.partition(MARK.format(index))[2].partition("---- cell")[0]
        missing = expected(stored, printed)
        assert missing is None, f"cell {index} no longer prints: {missing}\n{printed}"


def test_the_notebook_shows_what_it_prints() -> None:
    assert sum(bool(cell["outputs"]) for cell in _cells()) >= 4
