"""How much memory the machine has: as Linux and Windows say it."""

import ctypes
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dfq_deploy.files import memory
from dfq_deploy.files.memory import available_memory, physical_memory

GIB = 2**30


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="no Linux")
def test_linux_says_the_same_in_another_place() -> None:
    (kilobytes,) = re.findall(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert physical_memory() == int(kilobytes) * 1024


@pytest.mark.parametrize(("succeeds", "expected"), [(1, 24 * GIB), (0, None)])
def test_windows_has_no_sysconf(monkeypatch: pytest.MonkeyPatch, succeeds: int, expected: int | None) -> None:
    def global_memory_status(reference: Any) -> int:
        status = reference._obj
        assert status.dwLength == ctypes.sizeof(status) == 64  # as the Windows API wants it
        status.ullTotalPhys = 24 * GIB
        return succeeds

    kernel32 = SimpleNamespace(GlobalMemoryStatusEx=global_memory_status)
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    assert physical_memory() == expected


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> int:
        raise ValueError(f"unrecognized configuration name {name}")

    monkeypatch.setattr(os, "sysconf", unknown)
    assert physical_memory() is None


@pytest.mark.parametrize(
    ("stated", "expected"),
    [("2147483648\n", 2 * GIB), ("max\n", 8 * GIB), (f"{2**63 - 4096}\n", 8 * GIB), (None, 8 * GIB)],
)
def test_a_container_has_less(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stated: str | None, expected: int
) -> None:
    if stated is not None:
        (tmp_path / "memory.max").write_text(stated)
    monkeypatch.setattr(memory, "CONTAINER", (tmp_path / "memory.max", tmp_path / "none"))
    monkeypatch.setattr(memory, "physical_memory", lambda: 8 * GIB)
    assert available_memory() == expected
