"""Sources of the zoo: complete, pinned, and refused with another hash."""

import hashlib
import re
from pathlib import Path

import pytest

from benchmarks.zoo_sources import AKAMASTER, CIFAR, DISTILLER, LITE, VIT, File, cached


def test_every_file_is_pinned_to_a_commit_and_a_hash() -> None:
    networks = [*AKAMASTER.values(), *DISTILLER.values(), VIT]
    files = [file for network in networks for file in (network.weights, network.code) if file is not None]
    assert all(re.search(r"/[0-9a-f]{40}/", file.url) and re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in files)
    hashes = [value for images in CIFAR.values() for value in (images.test, images.training)] + list(LITE.values())
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes)


def test_a_file_with_another_hash_is_deleted_and_named(tmp_path: Path) -> None:
    origin = tmp_path / "weights.bin"
    origin.write_bytes(b"weights")
    right = File(origin.as_uri(), hashlib.sha256(b"weights").hexdigest())
    assert cached(right, tmp_path / "cache").read_bytes() == b"weights"
    origin.unlink()
    assert cached(right, tmp_path / "cache").read_bytes() == b"weights"  # not downloaded again
    wrong = File(right.url, "0" * 64)
    with pytest.raises(SystemExit, match=r"weights\.bin: SHA-256 is .*, 0{64} was expected"):
        cached(wrong, tmp_path / "cache")
    assert not (tmp_path / "cache" / wrong.name).exists()
