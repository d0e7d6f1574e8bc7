"""What the package consists of: pinned with hashes, licensed permissively, packed the same way each time."""

import io
import re
import tarfile
from pathlib import Path

import pytest

from benchmarks.hashes import lines_of, pins
from benchmarks.release import repacked
from benchmarks.sbom import bill, closure, licence_of

PERMISSIVE = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
    *("ISC", "MIT", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
}
"""Licences that ask for nothing but to be named."""


def test_every_dependency_is_licensed_permissively() -> None:
    packages = closure("dfq-deploy")
    assert {"click", "numpy", "onnx", "onnxruntime", "pillow", "sympy", "torch"} <= packages.keys()
    for name, (package, _) in packages.items():
        licences = re.split(r" AND | OR ", licence_of(package).replace("(", "").replace(")", ""))
        assert set(licences) <= PERMISSIVE, f"{name}: {licences}"


def test_the_bill_of_materials_names_versions_and_requirements() -> None:
    packages = closure("dfq-deploy")
    document = bill(packages)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "dfq-deploy"
    listed = {entry["name"]: entry for entry in document["components"]}
    assert listed.keys() == packages.keys() - {"dfq-deploy"}
    assert listed["rich"]["purl"] == f"pkg:pypi/rich@{packages['rich'][0].version}"
    references = {entry["bom-ref"] for entry in [*document["components"], document["metadata"]["component"]]}
    edges = {entry["ref"]: entry["dependsOn"] for entry in document["dependencies"]}
    assert edges.keys() == references
    assert set().union(*edges.values()) <= references
    assert any(reference.startswith("pkg:pypi/mpmath@") for reference in edges[listed["sympy"]["bom-ref"]])
    assert document == bill(closure("dfq-deploy"))


def test_what_ci_installs_is_pinned_with_hashes_in_the_versions_of_the_constraints(checkout: Path) -> None:
    lines = [line for line in (checkout / "requirements-ci.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(\+cpu)? --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    hashed = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line.split("==")[1].split()[0] for line in lines}
    pinned = dict(line.split("==") for line in pins(checkout / "constraints.txt"))
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned.items()}
    assert {name: version.partition("+")[0] for name, version in hashed.items()} == pinned


def test_a_file_without_a_hash_is_refused() -> None:
    entry = {"metadata": {"name": "a", "version": "1"}, "download_info": {"url": "a", "archive_info": {}}}
    with pytest.raises(ValueError, match=r"a 1: pip states no SHA-256 of it"):
        list(lines_of({"install": [entry]}))


def _packed(members: dict[str, bytes], date: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uname, member.uid = len(content), date, f"user-{date}", date
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_a_source_distribution_is_packed_the_same_way_each_time() -> None:
    one = _packed({"p/b.py": b"second", "p/a.py": b"first"}, 10**9)
    other = _packed({"p/a.py": b"first", "p/b.py": b"second"}, 10**9 + 5)
    assert one != other
    assert repacked(one, 123) == repacked(other, 123)
    with tarfile.open(fileobj=io.BytesIO(repacked(one, 123))) as archive:
        written = {member.name: (member.mtime, member.uid, member.uname) for member in archive}
    assert written == {"p/a.py": (123, 0, ""), "p/b.py": (123, 0, "")}
