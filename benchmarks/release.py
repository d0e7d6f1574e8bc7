"""Build wheel and source distribution, twice, and compare: the same commit gives the same bytes.

usage: python -m benchmarks.release [--output FOLDER] [--tests PATH...]

Each build starts from a fresh export of the commit and takes SOURCE_DATE_EPOCH from its date. setuptools writes the
time of the build into a source distribution: it is packed again here, in order, with the date of the commit and without
owners. What the source distribution lacks of the commit is listed, and --tests are run from it, unpacked, with this
Python. The exit status is 1 where anything differs, is missing, or fails.
"""

import argparse
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

__all__ = ["repacked"]

CHECKOUT = Path(__file__).parents[1]


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(CHECKOUT), *arguments], capture_output=True, check=True).stdout


def repacked(archive: bytes, date: int) -> bytes:
    """The same members as ``archive``, a .tar.gz, in the order of their names, with one date and without owners."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=date) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, date
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(plain, old.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def _built(folder: Path, date: int) -> dict[str, bytes]:
    """Name -> content of the two files, built from an export of the commit."""
    source, output = folder / "source", folder / "output"
    source.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "HEAD"))) as export:
        export.extractall(source, filter="data")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(source)]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "SOURCE_DATE_EPOCH": str(date)}
    )
    if run.returncode != 0:
        sys.exit(f"the build failed:\n{run.stdout[-1000:]}{run.stderr[-2000:]}")
    files = {file.name: file.read_bytes() for file in output.iterdir()}
    return {name: repacked(data, date) if name.endswith(".tar.gz") else data for name, data in files.items()}


def _missing(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    return sorted(set(_git("ls-tree", "-r", "--name-only", "HEAD").decode().splitlines()) - held)


def _tests_fail(archive: bytes, folder: Path, tests: list[str]) -> bool:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(folder, filter="data")
    (place,) = folder.iterdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=place, check=False).returncode != 0


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="where the two files are written")
    parser.add_argument("--tests", nargs="+", default=[], metavar="PATH")
    options = parser.parse_args()
    date, failed = int(_git("log", "-1", "--format=%ct")), False
    with tempfile.TemporaryDirectory() as place:
        first, second = (_built(Path(place) / str(number), date) for number in (1, 2))
        for name, content in first.items():
            same = content == second[name]
            failed |= not same
            print(f"{name}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}, ", end="")
            print("the same twice" if same else "DIFFERENT the second time")
        (source,) = (content for name, content in first.items() if name.endswith(".tar.gz"))
        missing = _missing(source)
        print(f"missing in the source distribution: {', '.join(missing) or 'nothing'}")
        failed |= bool(missing) or bool(options.tests and _tests_fail(source, Path(place) / "unpacked", options.tests))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        for name, content in first.items():
            (options.output / name).write_bytes(content)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
