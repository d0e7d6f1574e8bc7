"""Give hostile files to the command line: each is refused in one line within seconds, or read, as a table.

usage: python -m benchmarks.hostile [--cases FOLDER] [--limit SECONDS]

FOLDER has ``hostile/*.onnx``, which go to ``inspect`` and ``calibrate``, and ``encodings/*.json``, which go to
``export``; by default it is ``shared/cases`` beside the checkout, and where that is missing nothing is done. Each
command is a process of its own, with an empty cache, so that no file has been tried before. *refused* is exit status 1
or 2 and one line on stderr without control characters; *read* is any other status of a command that ended without a
traceback. The exit status is 1 if something else happened, or if a refusal took longer than the limit.

Seconds are CPU seconds of the process and its children, imports included.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from dfq_deploy.errors import printable

__all__ = ["CASES", "Answer", "answers"]

ROOT = Path(__file__).resolve().parents[1]

CASES = ROOT.parent / "shared/cases"

MODEL = ROOT / "examples/digits/digits.onnx"
"""The float model that the encodings belong to."""

LIMIT = 300.0
"""Seconds after which a command is ended."""


@dataclass(frozen=True)
class Answer:
    """What a command did with a file.

    Args:
        seconds: of CPU, imports included.
        elapsed: seconds from start to end.
        said: the last line on stderr.
    """

    file: str
    command: str
    kind: str
    seconds: float
    elapsed: float
    said: str


def answers(cases: Path) -> Iterator[Answer]:
    """Run the commands on all files."""
    for path in sorted(cases.glob("hostile/*.onnx")):
        yield _answer(path, "inspect", [str(path)])
        schedule = ["--synth", "procedural", "--samples", "32", "--floor", "none"]
        yield _answer(path, "calibrate", [str(path), *schedule, "-o", "out"])
    for path in sorted(cases.glob("encodings/*.json")):
        yield _answer(path, "export", [str(MODEL), "--to", "qdq", "--encodings", str(path), "-o", "out.onnx"])


def _answer(path: Path, command: str, arguments: list[str]) -> Answer:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"XDG_CACHE_HOME": f"{folder}/cache", "PYTHONPATH": str(ROOT)}
        before, started = _children(), time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "dfq_deploy", command, *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                timeout=LIMIT,
                check=False,
            )
            status, said = done.returncode, done.stderr.decode(errors="replace")
        except subprocess.TimeoutExpired:
            status, said = None, "no answer"
        elapsed = time.monotonic() - started
    lines = said.splitlines()
    last = lines[-1] if lines else ""
    return Answer(path.name, command, _kind(status, lines), _children() - before, elapsed, last)


def _kind(status: int | None, lines: list[str]) -> str:
    text = "\n".join(lines)
    if status is None:
        return "hang"
    if status < 0:
        return "abort"
    if "Traceback" in text or "unexpected " in text or any(printable(line) != line for line in lines):
        return "wrong"
    if status in (1, 2):
        return "refused" if len(lines) == 1 and lines[0].startswith("error: ") else "wrong"
    return "read"


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--limit", type=float, default=5.0, help="CPU seconds")
    options = parser.parse_args()
    if not options.cases.is_dir():
        print(f"no folder {options.cases}: name one with --cases", file=sys.stderr)
        return 0
    found = []
    print("| file | command, what came of it, CPU seconds | what it says |\n|---|---|---|")
    for file, group in groupby(answers(options.cases), key=lambda one: one.file):
        ran = list(group)
        found += ran
        what = "; ".join(f"{one.command} {one.kind} {one.seconds:.1f}" for one in ran)
        said = ran[-1].said.partition(f"{file}: ")[2] or ran[-1].said.removeprefix("error: ")
        shown = said.replace("|", "\\|") if ran[-1].kind != "read" else ""
        print(f"| {file} | {what} | {shown if len(shown) <= 90 else f'{shown[:89]}…'} |", flush=True)
    refused = [one for one in found if one.kind == "refused"]
    bad = [one for one in found if one.kind not in ("refused", "read")]
    late = [one for one in refused if one.seconds > options.limit]
    print(f"\n{len(found)} runs: {len(refused)} refused, {len(late)} of them late, {len(bad)} wrong")
    return int(bool(bad or late))


if __name__ == "__main__":
    sys.exit(main())
