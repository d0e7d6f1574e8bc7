"""Peak memory of a command at several numbers of samples, as a table.

usage: python -m benchmarks.memory MODEL.onnx [--counts 32,256,2048,8192] [--command calibrate] [--bytes]
       [--budgets 2G,256M] [-- OPTION ...]

The samples are drawn at random and smoothed, in an .npz of float32 as large as the count asks for, or with ``--bytes``
of uint8 pixels: whether memory grows does not depend on what they show. Each run is a process of its own, whose largest
resident set the system tells; pages of sample files that are in its memory at that moment are part of it. The last
column is the growth over the first row.

The options behind ``--`` go to the command, e.g. ``-- --refine reconstruct --bits w4a8``. By default ``calibrate`` does
without the search for a better result, and ``finetune`` passes over the samples once, at 8 bits.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np

__all__ = ["peak", "write_samples"]


DEFAULTS = {"calibrate": ["--floor", "none"], "finetune": ["--bits", "w8a8", "--epochs", "1"], "evaluate": []}
"""Options where none are given."""


def write_samples(path: Path, shape: tuple[int, ...], count: int, *, pixels: bool = False) -> None:
    """Write ``count`` samples of ``shape`` (C, H, W), a few at a time.

    Args:
        pixels: as uint8 (H, W, C), which take a quarter of the room; else as float32 (C, H, W).
    """
    generator = np.random.default_rng(0)
    channels, height, width = shape
    raw = path.with_suffix(".npy")
    kind, stored = (np.uint8, (height, width, channels)) if pixels else (np.float32, shape)
    images = np.lib.format.open_memmap(raw, mode="w+", dtype=kind, shape=(count, *stored))
    for index in range(count):
        coarse = generator.normal(0, 1, (channels, -(-height // 8), -(-width // 8)))
        smooth = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
        sample = smooth + generator.normal(0, 0.3, shape)
        images[index] = np.clip(128 + 50 * sample, 0, 255).transpose(1, 2, 0) if pixels else sample
    np.savez(path, images=images)
    raw.unlink()


def peak(command: list[str]) -> tuple[int, float]:
    """The largest resident set of a command in bytes, and the seconds that it took.

    Raises:
        RuntimeError: it fails.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 3):
            said.seek(0)
            raise RuntimeError(f"status {process.returncode}: {said.read().decode(errors='replace')[-500:]}")
    # Linux counts in units of 1,024 bytes, macOS in bytes.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), time.monotonic() - started


def _shape(model: Path) -> tuple[int, ...]:
    code = (
        "import sys; from dfq_deploy.graph.loading import load; from dfq_deploy.graph.inputs import sample_shape; "
        "print(*sample_shape(load(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


def main() -> None:
    """Run the command at each count and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--counts", default="32,256,2048,8192")
    parser.add_argument("--command", default="calibrate", choices=["calibrate", "finetune", "evaluate", "synthesize"])
    parser.add_argument("--budgets", help="of --max-memory, e.g. 2G,256M; a row for each at each count")
    parser.add_argument("--quantized", type=Path, help="for evaluate")
    parser.add_argument("--bytes", action="store_true", help="samples of uint8 pixels; give --preprocess behind --")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args, options = parser.parse_args(words[:end]), words[end + 1 :]
    shape, first = _shape(args.model), 0
    print(f"{args.model.name}, {args.command} {' '.join(options)}\n")
    print("| samples | --max-memory | peak memory | seconds | growth |\n|---|---|---|---|---|", flush=True)
    budgets = (args.budgets or "").split(",")
    for count, budget in product(map(int, args.counts.split(",")), budgets):
        with tempfile.TemporaryDirectory() as folder:
            samples = Path(folder) / "samples.npz"
            command = [sys.executable, "-m", "dfq_deploy", args.command, str(args.model)]
            command += ["--max-memory", budget] if budget else []
            if args.command == "synthesize":
                command += ["--samples", str(count), "-o", f"{folder}/out.npz", *options]
            else:
                # In a process of its own: Linux counts the peak of this one in the memory of those that it starts.
                write = partial(write_samples, samples, shape, count, pixels=args.bytes)
                writer = get_context("fork").Process(target=write)
                writer.start()
                writer.join()
                command += [str(args.quantized)] if args.command == "evaluate" else ["-o", f"{folder}/out"]
                command += ["--data", str(samples), *(options or DEFAULTS[args.command])]
            size, seconds = peak(command)
        first = first or size
        cells = (f"{count:,}", budget or "default", f"{size / 1e6:.0f} MB", f"{seconds:.0f}")
        print(f"| {' | '.join(cells)} | {100 * (size / first - 1):+.0f} % |", flush=True)


if __name__ == "__main__":
    main()
