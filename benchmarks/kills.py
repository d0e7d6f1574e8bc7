"""Kill commands at random moments, run them again, and compare every file with that of an uninterrupted run.

usage: python -m benchmarks.kills [--kills 200] [--seed 0] [--step NAME]... [--folder FOLDER]

Each command writes over the result of an earlier run with another seed, and is ended by SIGKILL, SIGTERM or SIGINT:
half of the time at a random moment, half of the time just before one of the system calls that create, rename or remove
a file. Three things must hold:

- the result is then that of the earlier run or that of the new one, never a mixture;
- the same command, with ``--resume`` where there is something to resume, ends as if nothing had happened, with the same
  bytes in every file; a third of them are killed once more before;
- nothing is left beside the result.

Each command runs in a fork of a process that has imported the package, which saves the seconds of the import. A journal
saves its state after a quarter of a second instead of 30, so that killed runs have something to resume, and the verdict
times the file for as long.

A folder keeps the uninterrupted runs and the counts, so that several calls with different seeds add up, and what was
wrong: ``STEP/wrong-N`` beside ``STEP/right``.

What a clock measures differs from run to run and is left out of the comparison: :data:`TIMED` lists it.
"""

import argparse
import gc
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from dfq_deploy.files.staging import is_staged

__all__ = ["STEPS", "Outcome", "Trials", "state_of"]

ROOT = Path(__file__).resolve().parents[1]

MODEL = ROOT / "examples/digits/digits_bn.onnx"

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")

SPEED = frozenset({"slower-than-float", "as-fast-as-float", "faster-than-float", "speed-not-measured"})
"""Codes of the findings of the verdict that come from a clock."""

TIMED = (
    "seconds",
    "noise: how many samples and layers fit into a share of the time that the run took",
    "run",
    "verdict.findings: those of SPEED",
    "verdict.status, verdict.reason, verdict.command: they follow from the findings",
)
"""What is left out of report.json. report.html must be the page of its report.json."""

WRITES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.chmod", "ctypes.dlsym"})
"""Audit events before which a command is killed, with ``open`` for writing."""

CHECKPOINTS = ("checkpoint.json", "checkpoint.pt", "checkpoint-samples.npz")

EVERY = 0.25
"""Seconds between two states of a journal, and of the timing."""


@dataclass(frozen=True)
class Step:
    """A command, as its arguments for a seed; it runs in the folder that it writes to.

    Args:
        main: the file of a result that is no folder; others belong to it, and are moved after it.
    """

    name: str
    arguments: Callable[[int, Path], list[str]]
    main: str = ""


def _synthesize(seed: int, _: Path) -> list[str]:
    schedule = ["--option", "iterations=24", "--option", "batch=16"]
    return ["synthesize", str(MODEL), "--samples", "48", *schedule, "-o", "s.npz", "--seed", str(seed)]


def _generator(seed: int, _: Path) -> list[str]:
    schedule = ["--method", "gdfq", "--option", "iterations=60", "--option", "channels=8", "--option", "batch=16"]
    return ["synthesize", str(MODEL), "--samples", "48", *schedule, "-o", "s.npz", "--seed", str(seed)]


def _calibrate(seed: int, _: Path) -> list[str]:
    schedule = ["--synth", "zeroq", "--option", "iterations=24", "--option", "batch=16", "--floor", "none"]
    return ["calibrate", str(MODEL), *schedule, "--samples", "32", "-o", "out", "--seed", str(seed)]


def _finetune(seed: int, _: Path) -> list[str]:
    schedule = ["--synth", "zeroq", "--option", "iterations=24", "--option", "batch=32", "--epochs", "4"]
    options = ["--bits", "w4a8", "--refine", "none", "--samples", "64"]
    return ["finetune", str(MODEL), *schedule, *options, "-o", "out", "--seed", str(seed)]


def _export(seed: int, folder: Path) -> list[str]:
    source = folder.parent / f"quantized-{seed}.onnx"
    # Weights in a file of their own; ONNX Runtime's .ort files differ from run to run.
    return ["export", str(source), "--to", "qdq", "--option", "external_data_above=0", "-o", "out.onnx"]


STEPS = {
    step.name: step
    for step in (
        Step("synthesize", _synthesize, "s.npz"),
        Step("generator", _generator, "s.npz"),
        Step("calibrate", _calibrate),
        Step("finetune", _finetune),
        Step("export", _export, "out.onnx"),
    )
}


@dataclass
class Outcome:
    """What happened to the kills of one step.

    Args:
        states: after the kill: ``old``, ``new``, ``alone`` (the file without what belongs to it), ``mixed``; after the
            next run: ``same``.
        resumed: runs that had something to resume.
        bad: one line for each violation.
    """

    kills: int = 0
    states: dict[str, int] = field(default_factory=dict)
    resumed: int = 0
    bad: list[str] = field(default_factory=list)

    def count(self, state: str) -> None:
        """Count one more of ``state``."""
        self.states[state] = self.states.get(state, 0) + 1


def state_of(folder: Path) -> dict[str, str]:
    """The files below ``folder``, by path: digests of their bytes without what a clock has measured."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "report.json":
        content = json.dumps(_untimed(json.loads(content)), sort_keys=True).encode()
    elif path.name == "report.html":
        from dfq_deploy.report.writing import page_of

        content = b"the page of its report" if page_of(path.parent).encode() == content else content
    return sha256(content).hexdigest()[:16]


def _untimed(report: dict[str, Any]) -> dict[str, Any]:
    findings = [one for one in report["verdict"]["findings"] if one["code"] not in SPEED]
    return {**report, "seconds": None, "noise": None, "verdict": findings, "run": None}


def _run(
    arguments: list[str], folder: Path, log: Path, number: int = 0, moment: float | None = None, call: int | None = None
) -> tuple[int, int, float]:
    """Run a command in a fork.

    Args:
        number: the signal that ends it.
        moment: seconds after which it is sent; None sends none.
        call: the system call before which the process sends it to itself; None for none of them.

    Returns:
        the exit status, negative for a signal; the number of calls, where nothing ended the process; the seconds.
    """
    reading, writing = os.pipe()
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _child(arguments, folder, log, writing, number, call)
    os.close(writing)
    if moment is not None:
        time.sleep(moment)
        os.kill(process, number)
    with os.fdopen(reading) as pipe:
        calls = pipe.read()
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), int(calls or 0), time.monotonic() - started


def _child(arguments: list[str], folder: Path, log: Path, pipe: int, number: int, call: int | None) -> None:
    from dfq_deploy.cli import main
    from dfq_deploy.synthesis.inversion import journal
    from dfq_deploy.verdict import assess

    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.chdir(folder)
    journal.EVERY, assess.TIMING_S = EVERY, EVERY
    seen = 0

    def watch(event: str, details: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in WRITES or (event == "open" and isinstance(details[2], int) and details[2] & os.O_CREAT):
            seen += 1
            if seen == call:
                os.kill(os.getpid(), number)

    sys.addaudithook(watch)
    status = 70
    try:
        main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        calls = seen
        sys.stdout.flush()
        os.write(pipe, str(calls).encode())
        os._exit(status)


class Trials:
    """Kills of one step.

    Args:
        place: a folder of its own.
        generator: chooses the moments and signals.
    """

    def __init__(self, step: Step, place: Path, generator: random.Random) -> None:
        self.step, self.generator = step, generator
        self.folder, self.before, self.log = place / "run", place / "before", place / "log"
        known = place / "reference.json"
        if not known.is_file():
            known.write_text(json.dumps(self._reference()), encoding="utf-8")
        self.old, self.new, self.calls, self.seconds = json.loads(known.read_text(encoding="utf-8"))
        if self.old == self.new or set(self.old) != set(self.new):
            raise RuntimeError(f"{step.name}: the two seeds give {sorted(self.old)} and {sorted(self.new)}")

    def _reference(self) -> tuple[dict[str, str], dict[str, str], int, float]:
        """What the earlier and the new run write, and the calls and seconds of the new one."""
        self.folder.mkdir(parents=True)
        self._finish(0, [])
        old = state_of(self.folder)
        shutil.copytree(self.folder, self.before)
        _, calls, seconds = self._finish(1, [])
        shutil.copytree(self.folder, self.before.with_name("right"))
        return old, state_of(self.folder), calls, seconds

    def kill(self, outcome: Outcome) -> None:
        """Kill one run at a random moment, look at what it left, run again and compare."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.before, self.folder)
        outcome.kills += 1
        how, more = self._killed([], outcome), []
        while True:
            more = ["--resume"] if self._resumable() else []
            outcome.resumed += bool(more)
            if self.generator.random() < 2 / 3:
                break
            how += f", then {self._killed(more, outcome)}"
            outcome.kills += 1
        status, _, _ = self._finish(1, more, check=False)
        found = state_of(self.folder)
        if status not in (0, 3):
            self._wrong(outcome, f"{how}; the next run ends with {status}: {self._said()}")
        elif found != self.new:
            differing = sorted(name for name in {*found, *self.new} if found.get(name) != self.new.get(name))
            self._wrong(
                outcome, f"{how}; after the next run ({' '.join(more) or 'anew'}) differ: {', '.join(differing)}"
            )
        else:
            outcome.count("same")

    def _killed(self, more: list[str], outcome: Outcome) -> str:
        kind = self.generator.choice(SIGNALS)
        timed = self.generator.random() < 0.5
        moment = self.generator.uniform(0, 1.05 * self.seconds) if timed else None
        call = None if timed else self.generator.randint(1, self.calls)
        arguments = [*self.step.arguments(1, self.folder), *more]
        status, _, _ = _run(arguments, self.folder, self.log, getattr(signal, kind), moment, call)
        how = f"{self.step.name} {kind} {f'after {moment:.3f} s' if timed else f'before call {call}'} (status {status})"
        if "Traceback" in self.log.read_text(encoding="utf-8", errors="replace"):
            self._wrong(outcome, f"{how}: a traceback: {self._said()}")
        left = {name: digest for name, digest in state_of(self.folder).items() if not _passing(name)}
        state = self._state(left)
        outcome.count(state)
        if state == "mixed":
            kinds = {
                digest: kind for kind, known in (("new", self.new), ("old", self.old)) for digest in known.values()
            }
            listed = {name: kinds.get(left[name], "neither") for name in self.old if name in left}
            self._wrong(outcome, f"{how}: a mixture, {listed} and {sorted(set(left) - set(self.old))}")
        return how

    def _wrong(self, outcome: Outcome, line: str) -> None:
        """Count a violation, and keep the folder that shows it."""
        kept = self.before.with_name(f"wrong-{len(outcome.bad)}")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.folder, kept)
        outcome.bad.append(line)

    def _state(self, left: dict[str, str]) -> str:
        """The result that is there, where companions of a single file may be missing: they are moved after it."""
        for state, result in (("old", self.old), ("new", self.new)):
            missing = set(result) - set(left)
            whole = not missing or (self.step.main and self.step.main not in missing)
            if left.items() <= result.items() and whole:
                return "alone" if missing else state
        return "mixed"

    def _finish(self, seed: int, more: list[str], check: bool = True) -> tuple[int, int, float]:
        result = _run([*self.step.arguments(seed, self.folder), *more], self.folder, self.log)
        if check and result[0] not in (0, 3):
            raise RuntimeError(f"{self.step.name} ends with {result[0]}: {self._said()}")
        return result

    def _said(self) -> str:
        return " ".join(self.log.read_text(encoding="utf-8", errors="replace").split())[-300:]

    def _resumable(self) -> bool:
        return any(self.folder.glob("*.unfinished/facts.json")) or any(self.folder.glob("*/checkpoint.json"))


def _passing(name: str) -> bool:
    """True for what a killed run may leave: temporary files, and what it can be resumed from."""
    parts = Path(name).parts
    return any(is_staged(Path(part)) or part.endswith(".unfinished") for part in parts) or parts[-1] in CHECKPOINTS


def write_quantized(place: Path) -> None:
    """Write what the step ``export`` reads."""
    for seed in (0, 1):
        folder = place / f"made-{seed}"
        folder.mkdir()
        status, _, _ = _run(_calibrate(seed, folder), folder, place / "log")
        if status not in (0, 3):
            raise RuntimeError((place / "log").read_text())
        (folder / "out/model.qdq.onnx").rename(place / "export" / f"quantized-{seed}.onnx")
        shutil.rmtree(folder)


def import_all() -> None:
    """Import the package once, before the forks."""
    import dfq_deploy

    for module in pkgutil.walk_packages(dfq_deploy.__path__, "dfq_deploy."):
        if not module.name.endswith(("__main__", "worker")):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # the forks share what is there


def trials(names: list[str], place: Path, generator: random.Random) -> Iterator[Trials]:
    """The trials of each step, with their uninterrupted runs done."""
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    for name in names:
        (place / name).mkdir(exist_ok=True)
        if name == "export" and not (place / "export/quantized-1.onnx").is_file():
            write_quantized(place)
        yield Trials(STEPS[name], place / name, generator)


def main() -> None:
    """Kill, compare, print a table; exit status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=200, help="of all steps together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", action="append", choices=list(STEPS), help="repeatable; all by default")
    parser.add_argument("--folder", type=Path, help="where to work, and to count on; by default a temporary one")
    args = parser.parse_args()
    names, generator = args.step or list(STEPS), random.Random(args.seed)
    import_all()
    with tempfile.TemporaryDirectory() as temporary:
        place = args.folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        place, counts = place.resolve(), place / "counts.json"
        known = json.loads(counts.read_text(encoding="utf-8")) if counts.is_file() else {}
        outcomes = {name: Outcome(**entry) for name, entry in known.items()}
        for index, one in enumerate(trials(names, place, generator)):
            outcome = outcomes.setdefault(one.step.name, Outcome())
            for _ in range(args.kills // len(names) + (index < args.kills % len(names))):
                before = len(outcome.bad)
                one.kill(outcome)
                entries = {name: asdict(found) for name, found in outcomes.items()}
                counts.write_text(json.dumps(entries), encoding="utf-8")
                for line in outcome.bad[before:]:
                    print(line, file=sys.stderr, flush=True)
    print(table(outcomes))
    raise SystemExit(any(found.bad for found in outcomes.values()))


def table(outcomes: dict[str, Outcome]) -> str:
    """The counts of each step."""
    lines = [
        "| step | kills | old left | new left | file alone | mixtures | resumed | same bytes after | wrong |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in outcomes.items():
        states = [found.states.get(state, 0) for state in ("old", "new", "alone", "mixed")]
        figures = (found.kills, *states, found.resumed, found.states.get("same", 0), len(found.bad))
        lines.append(f"| {name} | {' | '.join(map(str, figures))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
