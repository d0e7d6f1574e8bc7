"""Write requirements-ci.txt: the versions of constraints.txt with the SHA-256 of each file that pip installs.

usage: python -m benchmarks.hashes [--output FILE]

The hashes are those of the files that pip chooses for this Python and system; CI's are Python 3.11 on x86-64 Linux.
Nothing is installed, and where the index states metadata apart, nothing is downloaded either. ``make locked`` installs
from the file with ``pip install --require-hashes``. NVIDIA's packages, which only the tests of TensorRT use, are left
out: they are source packages that download the rest.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]

LEFT_OUT = "tensorrt"

HEAD = """# Written by python -m benchmarks.hashes for Python {version} on {system}: what CI installs, file by file.
#   pip install --require-hashes -r requirements-ci.txt
"""


def pins(constraints: Path) -> list[str]:
    """The lines of ``constraints`` that state a version, without those that are left out."""
    lines = (line.strip() for line in constraints.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", LEFT_OUT))]


def lines_of(report: Mapping[str, Any]) -> Iterable[str]:
    """A line for each file in an installation report of pip.

    Raises:
        ValueError: a file has no SHA-256.
    """
    for entry in report["install"]:
        name, version = entry["metadata"]["name"], entry["metadata"]["version"]
        digest = entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None:
            raise ValueError(f"{name} {version}: pip states no SHA-256 of it")
        yield f"{name}=={version} --hash=sha256:{digest}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=CHECKOUT / "requirements-ci.txt")
    options = parser.parse_args()
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
    command += ["--report", "-", *pins(CHECKOUT / "constraints.txt")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"pip failed:\n{run.stderr[-2000:]}")
    report = json.loads(run.stdout)
    system = report["environment"]
    head = HEAD.format(
        version=system["python_version"], system=f"{system['platform_machine']} {system['sys_platform']}"
    )
    body = "\n".join(sorted(lines_of(report), key=str.lower))
    options.output.write_text(f"{head}{body}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
