"""Load and run a file in a child process the first time that it is seen.

Native code can abort the process that calls it, and can ask for any amount of memory and time. A child process can do
so without harm: the caller gets one line.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime

from dfq_deploy.errors import ModelError, is_out_of_memory, one_line
from dfq_deploy.files.paths import cache_folder
from dfq_deploy.validation import probe
from dfq_deploy.validation.bounds import Bounds, bounds

__all__ = ["ask", "complaint_about", "try_file"]

_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?")
"""What ONNX Runtime puts before its words."""


def try_file(path: Path) -> str | None:
    """Infer the shapes of a model and run it once, in a child process; not again for a file that has passed.

    What has passed is remembered by its hash in the user's cache folder (``$XDG_CACHE_HOME/dfq-deploy``, or
    ``~/.cache/dfq-deploy``), where that can be written.

    Returns:
        what onnx or ONNX Runtime says against the file, in their words; None where both take it. A file that they
        refuse is not refused here: it may hold operators of another runtime, or be mended while it is read.

    Raises:
        ModelError: the child process was aborted, took more than the limits of :class:`.Bounds`, or a tensor of the
            model does not fit into its memory.
    """
    mark = _mark(path)
    if mark is not None and mark.is_file():
        return None
    refused = _run(path, bounds()).get("refused")
    if refused is None and mark is not None:
        _remember(mark)
    return None if refused is None else _shown(refused)


def complaint_about(path: Path) -> str | None:
    """Try a file again, and return what onnx or ONNX Runtime says against it, or against a run of it on zeros.

    Raises:
        ModelError: as :func:`try_file`.
    """
    words = _run(path, bounds())
    return next((_shown(words[kind]) for kind in ("refused", "failed") if kind in words), None)


def _shown(words: str) -> str:
    return one_line(_PREFIX.sub("", words), 300)


def ask(path: Path, limits: Bounds) -> "subprocess.CompletedProcess[bytes]":
    """Run :mod:`.probe` on a file.

    Raises:
        subprocess.TimeoutExpired: it takes longer than the limit.
    """
    command = [sys.executable, "-I", probe.__file__, str(path), str(limits.memory)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, capture_output=True, timeout=limits.seconds, check=False, env=environment)


_refused: dict[tuple[Any, ...], str] = {}
"""The file that was refused last, with its limits, and why: a step that asks again need not wait again."""


def _run(path: Path, limits: Bounds) -> dict[str, Any]:
    stat = path.stat()
    key = (path.resolve(), stat.st_mtime_ns, stat.st_size, limits)
    if key in _refused:
        raise ModelError(_refused[key])
    try:
        return _asked(path, limits)
    except ModelError as problem:
        _refused.clear()
        _refused[key] = str(problem)
        raise


def _asked(path: Path, limits: Bounds) -> dict[str, Any]:
    try:
        done = ask(path, limits)
    except subprocess.TimeoutExpired as problem:
        stage = _words(problem.stdout or b"").get("stage", "starting")
        raise ModelError(
            f"{path}: {stage} takes more than {limits.seconds:g} s; raise --max-seconds if that is meant"
        ) from None
    words = _words(done.stdout)
    if "large" in words:
        name, shape, size = words["large"]
        raise ModelError(
            f"{path}: tensor '{name}' of shape {shape} takes {size:,} bytes, the limit is {limits.memory:,}; raise "
            "--max-memory if that is meant"
        )
    if any(is_out_of_memory(Exception(words[kind])) for kind in ("refused", "failed") if kind in words):
        raise ModelError(
            f"{path}: {words['stage']} takes more than {limits.memory:,} bytes of memory; raise --max-memory if that "
            "is meant"
        )
    if "done" not in words:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ModelError(
            f"{path}: {words.get('stage', 'starting')} ends the process with status {done.returncode}"
            f"{f' ({one_line(said[-1], 150)})' if said else ''}; the file is damaged, or needs more than "
            f"{limits.memory:,} bytes (--max-memory): export it again"
        )
    return words


def _words(output: bytes) -> dict[str, Any]:
    """What the child said, the last of each kind."""
    said: dict[str, Any] = {}
    for line in output.decode(errors="replace").splitlines():
        if line.startswith("{") and line.endswith("}"):
            said |= json.loads(line)
    return said


def _mark(path: Path) -> Path | None:
    """The file that says that ``path`` has passed with these versions; None without a home folder."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    digest.update(f"{onnx.__version__} {onnxruntime.__version__}".encode())
    cache = cache_folder()
    return None if cache is None else cache / "models-seen" / digest.hexdigest()


def _remember(mark: Path) -> None:
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError:  # a cache that cannot be written costs a second at the next call, no more
        return
