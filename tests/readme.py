"""Run the README's commands, as they stand, in a clean copy of the checkout: ``python -m tests.readme``.

The files that git tracks are copied to a temporary folder, and every shell block of the README runs there, in one
bash: the environment is made, the package is installed, and what the commands print is compared with what the page
shows. Only ``git clone`` is left out.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from tests.pages import CHECKOUT, blocks, expected

README = CHECKOUT / "README.md"
BETWEEN = "---- block {} ----"


def copied(folder: Path) -> Path:
    """The files that git tracks, in ``folder``."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


def script() -> str:
    """All shell blocks of the README, with a line printed in front of each."""
    parts = ["set -euo pipefail"]
    for index, block in enumerate(blocks(README)):
        if block.language == "sh":
            lines = [line for line in block.code.splitlines() if not line.startswith("git clone")]
            parts += [f"echo '{BETWEEN.format(index)}'", *lines]
    return "\n".join(parts)


def main() -> int:
    """Run and compare; the exit status."""
    start = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            ["bash", "-c", script()],
            cwd=copied(Path(folder)),
            env=environment | {"COLUMNS": "120"},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    print(run.stdout)
    if run.returncode:
        print(f"README.md: a command ended with status {run.returncode}", file=sys.stderr)
        return 1
    for (index, block), (_, after) in pairwise(enumerate(blocks(README))):
        if block.language == "sh" and after.language == "text":
            printed = run.stdout.partition(BETWEEN.format(index))[2]
            missing = expected(after.code, printed)
            if missing is not None:
                print(f"README.md shows a line that is not printed: {missing}", file=sys.stderr)
                return 1
    print(f"README.md: every command ran, in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
