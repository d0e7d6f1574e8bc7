"""Run inputs in child processes, within limits of time and memory."""

import faulthandler
import io
import json
import mmap
import os
import re
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from benchmarks.fuzzing.readers import Reader
from dfq_deploy.errors import DfqError, is_out_of_memory, printable
from dfq_deploy.validation import probe, trial
from dfq_deploy.validation.bounds import Bounds, use_bounds

__all__ = ["GOOD", "Limits", "Tally", "run_reader"]

GOOD = ("ok", "refused")
"""Kinds that are as promised."""

LONGEST_MESSAGE = 1500
"""Characters of an error that is still one line for a reader."""

OWN = ("/dfq_deploy/", "/calibrators/", "/exporters/")
"""Parts of the paths of this package's files."""

BEGINNING = 5
"""Times the limit of an input that a child process may take before it begins with its first."""

ROUND = 1000
"""Inputs after which a worker is replaced by a fresh one."""


@dataclass(frozen=True)
class Limits:
    """What one input may take.

    Args:
        seconds: until it counts as a hang.
        memory: bytes of ``--max-memory``.
        overhead: bytes of address space beyond, as :mod:`dfq_deploy.validation.probe` grants.
    """

    seconds: float = 20.0
    memory: int = 2**29
    overhead: int = probe.OVERHEAD


@dataclass
class Tally:
    """What came of the inputs of one reader: how many of each kind, and the first input of each kind of failure."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, kind: str, index: int) -> None:
        """Count an input."""
        self.counts[kind] += 1
        if kind not in GOOD:
            self.first.setdefault(kind, index)


def run_reader(reader: Reader, seed: int, indices: range, limits: Limits, folder: Path, until: float) -> Tally:
    """Run the inputs ``indices`` of a reader in child processes, one after the other.

    Args:
        folder: working folder.
        until: time (:func:`time.monotonic`) after which no further input is begun.
    """
    tally, begun, index = Tally(), time.monotonic(), indices.start
    while index < indices.stop and time.monotonic() < until:
        part = range(index, min(index + ROUND, indices.stop))
        index = _run_part(reader, seed, part, limits, folder, until, tally)
    tally.seconds = time.monotonic() - begun
    return tally


def _run_part(reader: Reader, seed: int, part: range, limits: Limits, folder: Path, until: float, tally: Tally) -> int:
    """Run ``part`` in one child; returns the index after the last input that was begun."""
    state = mmap.mmap(-1, 16)  # the input that runs, and since when
    # A busy machine may let the child wait before it begins.
    state[:] = struct.pack("<qd", part.start, time.monotonic() + BEGINNING * limits.seconds)
    stacks = folder / "stacks.txt"
    stacks.touch()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with stacks.open("wb") as stream:
            faulthandler.enable(stream)
            try:
                _work(reader, seed, part, limits, folder, until, state, writing, stream)
            except BaseException:  # it must not go on as if it were the parent
                stream.write(traceback.format_exc().encode(errors="replace"))
                stream.flush()
                os._exit(1)
    os.close(writing)
    status = 0
    kinds = _lines(reading, lambda: _is_late(state, limits, child))
    last = part.start - 1
    for line in kinds:
        number, kind = json.loads(line)
        tally.add(kind, number)
        last = number
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        code = os.waitstatus_to_exitcode(status)
        last = int(struct.unpack("<q", state[:8])[0])
        what = f"abort: {signal.Signals(-code).name if code < 0 else f'status {code}'}"
        tally.add(f"{'hang' if code == -signal.SIGKILL else what} at {_innermost(stacks)}", last)
    return last + 1 if last >= part.start else part.stop


def _is_late(state: mmap.mmap, limits: Limits, child: int) -> None:
    _, since = struct.unpack("<qd", state[:])
    if time.monotonic() - since > limits.seconds:
        os.kill(child, signal.SIGKILL)


def _lines(reading: int, wait: Callable[[], None]) -> Iterator[str]:
    with os.fdopen(reading) as stream:
        while True:
            ready, _, _ = select.select([stream], [], [], 0.5)
            if not ready:
                wait()
                continue
            line = stream.readline()
            if not line:
                return
            yield line
            wait()


def _work(
    reader: Reader,
    seed: int,
    part: range,
    limits: Limits,
    folder: Path,
    until: float,
    state: mmap.mmap,
    writing: int,
    stacks: BinaryIO,
) -> NoReturn:
    os.setpgid(0, 0)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    room = _status("VmSize") + limits.memory + limits.overhead
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    trial.ask = _ask_forked
    trial._mark = lambda path: None
    with os.fdopen(writing, "w") as said:
        for index in part:
            if time.monotonic() > until:
                break
            state[:] = struct.pack("<qd", index, time.monotonic())
            faulthandler.dump_traceback_later(0.9 * limits.seconds, file=stacks)
            kind = outcome(reader, seed, index, limits, folder)
            said.write(json.dumps([index, kind]) + "\n")
            said.flush()
    os._exit(0)


def _innermost(stacks: Path) -> str:
    """The innermost function of this package in a dump of the stacks."""
    frames = re.findall(r'File "([^"]+)", line \d+ in (\S+)', stacks.read_text(encoding="utf-8", errors="replace"))
    own = [(file, name) for file, name in frames if any(part in file for part in OWN)]
    return next((f"{Path(file).stem}.{name}" for file, name in own or frames), "an unknown place")


def outcome(reader: Reader, seed: int, index: int, limits: Limits, folder: Path) -> str:
    """Run one input in this process, and return what came of it."""
    place = folder / "input"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    content, rng = reader.input(seed, index)
    path = place / f"input{reader.ending}"
    path.write_bytes(content)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak of resident memory begins anew
    before = _status("VmRSS")
    try:
        with use_bounds(Bounds(memory=limits.memory, seconds=limits.seconds / 2)), redirect_stdout(io.StringIO()):
            reader.read(path, rng)
        kind = "ok"
    except DfqError as problem:
        kind = _judged(str(problem))
    except BaseException as problem:
        kind = "memory" if is_out_of_memory(problem) else f"wrong: {type(problem).__name__} at {_place(problem)}"
    if kind in GOOD and _status("VmHWM") - before > limits.memory:
        kind = "memory: beyond the budget"
    return kind


def _judged(message: str) -> str:
    if printable(message) != message:
        return "wrong: control characters in the message"
    return "refused" if 0 < len(message) < LONGEST_MESSAGE else "wrong: length of the message"


def _place(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    own = [frame for frame in frames if any(part in frame.filename for part in OWN)]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).stem}.{frame.name}"


def _status(name: str) -> int:
    """A size in bytes that the system states for this process."""
    with open("/proc/self/status", encoding="ascii") as stream:
        return next(int(line.split()[1]) * 1024 for line in stream if line.startswith(f"{name}:"))


def _ask_forked(path: Path, limits: Bounds) -> "subprocess.CompletedProcess[bytes]":
    """What :func:`dfq_deploy.validation.trial.ask` does, in a fork of this process: its libraries are loaded."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(writing, 1)
        sys.stdout = os.fdopen(1, "w")
        status = 1
        try:
            probe.main(str(path), limits.memory)
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writing)
    output, deadline = b"", time.monotonic() + limits.seconds
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            raise subprocess.TimeoutExpired("probe", limits.seconds, output)
        block = os.read(reading, 2**16)
        if not block:
            break
        output += block
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return subprocess.CompletedProcess("probe", os.waitstatus_to_exitcode(status), output, b"")
