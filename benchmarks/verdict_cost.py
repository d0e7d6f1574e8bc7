"""What the verdict adds to ``calibrate``: CPU seconds of its parts, of everything else, and their ratio, as a table.

usage: python -m benchmarks.verdict_cost MODEL.onnx [--runs N] [--floor FLOOR] [--preprocess NAME]

Each run is a process of its own, as on the command line, so that the time to import and to read the model counts. CPU
seconds are those of all threads; ``OMP_NUM_THREADS=1`` in front of the command makes them comparable from machine to
machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

PARTS = {
    "_sanity": "samples and preprocess",
    "_sets": "drawing held-out inputs",
    "measure_agreement": "agreement",
    "_noise": "noise of each layer",
    "check": "rules of the target and kernel counts",
    "_speed": "speed",
}
"""Functions of :mod:`dfq_deploy.verdict.assess` -> what they measure."""

VERDICT = "the verdict"
TOTAL = "calibrate"


def measured(arguments: list[str]) -> dict[str, float]:
    """CPU seconds of the verdict, of its parts and of the whole process, for one run of ``calibrate``."""
    from dfq_deploy.cli import main
    from dfq_deploy.verdict import assess

    spent: dict[str, float] = {}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*positional: Any, **named: Any) -> Any:
            started = time.process_time()
            try:
                return function(*positional, **named)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - started

        return run

    with ExitStack() as patches:
        for name, what in {"assess": VERDICT, **PARTS}.items():
            patches.enter_context(mock.patch.object(assess, name, timed(what, getattr(assess, name))))
        main(arguments, standalone_mode=False)
    return {**spent, TOTAL: time.process_time()}


def table(runs: list[dict[str, float]]) -> str:
    """Medians over ``runs``, and what the verdict adds to the rest."""
    found = {name: median(run.get(name, 0.0) for run in runs) for name in (*PARTS.values(), VERDICT, TOTAL)}
    rest = found[TOTAL] - found[VERDICT]
    lines = ["| part | CPU seconds |", "|---|---|"]
    lines += [f"| {name} | {found[name]:.2f} |" for name in (*PARTS.values(), VERDICT)]
    lines.append(f"| everything else | {rest:.2f} |")
    lines.append(f"\nthe verdict adds {100 * found[VERDICT] / rest:.0f} % (median of {len(runs)} runs)")
    return "\n".join(lines)


def main() -> None:
    """Run ``calibrate --synth procedural`` several times and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--floor", default="none", help="the default none leaves out what looks for a better result")
    parser.add_argument("--preprocess", help="as calibrate takes it; the checks of a preprocess take time too")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        preprocess = ["--preprocess", args.preprocess] if args.preprocess else []
        with tempfile.TemporaryDirectory() as folder:
            command = ["calibrate", str(args.model), "--synth", "procedural", "--floor", args.floor, *preprocess]
            args.once.write_text(json.dumps(measured([*command, "-o", str(Path(folder) / "out")])))
        return
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.runs):
            file = Path(folder) / "run.json"
            command = [sys.executable, "-m", "benchmarks.verdict_cost", *sys.argv[1:], "--once", str(file)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            runs.append(json.loads(file.read_text()))
    print(table(runs))


if __name__ == "__main__":
    main()
