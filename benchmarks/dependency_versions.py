"""Run the command line's tests with the oldest or the newest dependencies that pyproject.toml allows.

    python -m benchmarks.dependency_versions oldest
    python -m benchmarks.dependency_versions newest
    python -m benchmarks.dependency_versions oldest --with torch==2.13.0

A fresh virtual environment, in a temporary folder, gets the lower bound of every requirement, or the newest release of
each; ``--with`` states another version, repeatable, for what cannot be had here. The exit status is that of the tests.
"""

import argparse
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[1]

TOOLS = ("pytest>=9", "scikit-learn>=1.5", "setuptools>=77")
"""What the tests and the build need, in any version that suits the others."""

TESTS = "tests/cli"

LISTING = "import sys; from importlib.metadata import version as of; print(*(f'{n}=={of(n)}' for n in sys.argv[1:]))"


def requirements(declared: Iterable[str], which: str, stated: Sequence[str] = ()) -> list[str]:
    """The versions to install, one for each of ``declared``.

    Args:
        declared: requirements with one lower bound each, e.g. ``numpy>=2.0``.
        which: ``oldest`` or ``newest``.
        stated: versions that take the place of these, e.g. ``torch==2.13.0``.

    Raises:
        ValueError: a requirement has no lower bound, or what is stated is none of them.
    """
    others = {Requirement(text).name: text for text in stated}
    chosen = []
    for requirement in map(Requirement, declared):
        bounds = [part.version for part in requirement.specifier if part.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(f"'{requirement}' has no lower bound; give it one in pyproject.toml, e.g. >=1.0")
        version = f"=={bounds[0]}" if which == "oldest" else str(requirement.specifier)
        chosen.append(others.pop(requirement.name, f"{requirement.name}{version}"))
    if others:
        raise ValueError(f"--with {next(iter(others.values()))}: no requirement of pyproject.toml has that name")
    return chosen


def install(python: Path, chosen: Sequence[str]) -> None:
    """Install ``chosen``, the tools and the checkout itself; torch first, the largest by far."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = [text for text in chosen if Requirement(text).name == "torch"]
    subprocess.run([*pip, *torch], check=True)
    subprocess.run([*pip, *chosen, *TOOLS], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(CHECKOUT)], check=True)


def main() -> int:
    """Build the environment, say what is in it, run the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("oldest", "newest"))
    parser.add_argument("--with", dest="stated", action="append", default=[], metavar="NAME==VERSION")
    given = parser.parse_args()
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chosen = requirements(project["dependencies"], given.which, given.stated)
    with TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        install(python, chosen)
        names = [Requirement(text).name for text in chosen]
        subprocess.run([str(python), "-c", LISTING, *names], check=True)
        # Warnings of other versions are no failures: releases to come announce themselves so.
        command = [str(python), "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", TESTS]
        return subprocess.run(command, cwd=CHECKOUT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
