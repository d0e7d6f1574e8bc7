"""Fuzz every reader of files with mutants of sound ones; count what came of them, as a Markdown table.

usage: python -m benchmarks.fuzz [--count N] [--minutes N] [--seed N] [--readers NAME...] [--corpus FOLDER]
       [--failures FOLDER]

Inputs are small models, their quantized files and encodings, calibration caches, samples, images and archives of
images, each with a few fields, members or bytes changed (``benchmarks/fuzzing``). Every input runs in a child process
with an address space of --max-memory and 2 GiB, and is killed after 20 s. An input is

=============  ========================================================================================
ok, refused    read; or refused in one line by the package's own exceptions, without control characters
wrong          any other exception, or a message with control characters or of more than 1,500 characters
abort          the process ended by a signal
hang           more than 20 s
memory         more memory than --max-memory beyond what the process had
=============  ========================================================================================

The child process in which a model file is tried first is a fork here, which takes milliseconds; that is the only
difference from the product. The exit status is 1 where any input failed; the first of each kind is written to
--failures, and its name says what happened. ``--readers NAME --index N`` runs a single one again, with its traceback.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

import torch

from benchmarks.fuzzing.readers import Reader, readers
from benchmarks.fuzzing.supervise import GOOD, Limits, Tally, run_reader
from dfq_deploy.validation.bounds import Bounds, use_bounds

QUANTIZED = {"encodings", "check", "export", "evaluate", "export with encodings"}
"""Readers whose inputs are made of quantized models."""


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="inputs over all readers")
    parser.add_argument("--minutes", type=float, default=0.0, help="end after so long; 0 is when all have run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-memory", type=int, default=Limits.memory, help="bytes")
    parser.add_argument("--readers", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--corpus", type=Path, help="a folder with more .onnx files to start from")
    parser.add_argument("--failures", type=Path, help="where inputs that failed are written")
    parser.add_argument("--index", type=int, help="run one input of one reader, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        chosen = [
            one
            for one in _prepared(folder, options.corpus, options.readers)
            if not options.readers or one.name in options.readers
        ]
        if options.index is not None:
            return _again(chosen[0], options.seed, options.index, options.max_memory, folder)
        tallies = _run(chosen, options, folder)
        if options.failures is not None:
            _keep(chosen, tallies, options.seed, options.failures)
    print(_table(tallies))
    return int(any(kind not in GOOD for tally in tallies.values() for kind in tally.counts))


def _prepared(folder: Path, more: Path | None, names: Collection[str] | None) -> tuple[Reader, ...]:
    """The readers. Another process quantizes their corpus, so that the workers fork from a fresh one."""
    made = folder / "made"
    made.mkdir(exist_ok=True)
    if not names or QUANTIZED & set(names):
        subprocess.run([sys.executable, "-m", "benchmarks.fuzzing.corpus", str(made)], check=True, timeout=300)
    return readers(made, more)


def _run(chosen: list[Reader], options: argparse.Namespace, folder: Path) -> dict[str, Tally]:
    shares = sum(reader.share for reader in chosen)
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    tallies = {}
    for reader in chosen:
        count = max(1, round(options.count * reader.share / shares))
        tallies[reader.name] = run_reader(
            reader, options.seed, range(count), Limits(memory=options.max_memory), folder, end
        )
        print(f"{reader.name}: {dict(tallies[reader.name].counts)}", file=sys.stderr, flush=True)
    return tallies


def _again(reader: Reader, seed: int, index: int, memory: int, folder: Path) -> int:
    content, rng = reader.input(seed, index)
    path = folder / f"input{reader.ending}"
    path.write_bytes(content)
    with use_bounds(Bounds(memory=memory, seconds=20)):
        reader.read(path, rng)
    return 0


def _keep(chosen: list[Reader], tallies: dict[str, Tally], seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for reader in chosen:
        for kind, index in tallies[reader.name].first.items():
            name = "".join(letter if letter.isalnum() else "_" for letter in f"{reader.name} {kind} {index}")
            (folder / f"{name}{reader.ending}").write_bytes(reader.input(seed, index)[0])


def _table(tallies: dict[str, Tally]) -> str:
    lines = ["| reader | inputs | read | refused | wrong | abort | hang | memory | s |", "|---|" + "--:|" * 8]
    for name, tally in tallies.items():
        counts = tally.counts
        kinds = [
            sum(n for kind, n in counts.items() if kind.startswith(k)) for k in ("wrong", "abort", "hang", "memory")
        ]
        figures = [sum(counts.values()), counts["ok"], counts["refused"], *kinds]
        lines.append(f"| {name} | {' | '.join(f'{figure:,}' for figure in figures)} | {tally.seconds:.0f} |")
    faults = [
        (name, kind, n, tally.first[kind])
        for name, tally in tallies.items()
        for kind, n in tally.counts.items()
        if kind not in GOOD
    ]
    if faults:
        lines += ["", "| reader | what | inputs | the first |", "|---|---|--:|--:|"]
        lines += [f"| {name} | {kind} | {n} | {first} |" for name, kind, n, first in sorted(faults)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
