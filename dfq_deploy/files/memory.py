"""Memory of the machine, or of the container."""

import ctypes
import os
from pathlib import Path

__all__ = ["available_memory", "physical_memory"]

CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux states the limit of a container: control groups of version 2 and 1. Without a limit it is ``max``, or a
number larger than any memory."""


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API (sysinfoapi.h)."""

    _fields_ = (
        ("dwLength", ctypes.c_uint32),
        ("dwMemoryLoad", ctypes.c_uint32),
        ("ullTotalPhys", ctypes.c_ulonglong),
        ("ullAvailPhys", ctypes.c_ulonglong),
        ("ullTotalPageFile", ctypes.c_ulonglong),
        ("ullAvailPageFile", ctypes.c_ulonglong),
        ("ullTotalVirtual", ctypes.c_ulonglong),
        ("ullAvailVirtual", ctypes.c_ulonglong),
        ("ullAvailExtendedVirtual", ctypes.c_ulonglong),
    )


def available_memory() -> int | None:
    """Bytes that this process may take: the physical memory, or less where a container limits it; None if unknown."""
    stated = [physical_memory(), *(_stated(path) for path in CONTAINER)]
    return min((size for size in stated if size is not None), default=None)


def _stated(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no Linux, no container, or no limit
        return None


def physical_memory() -> int | None:
    """Physical memory of the machine in bytes; None if the system does not report it."""
    sysconf = getattr(os, "sysconf", None)  # Windows has none
    if sysconf is None:
        return _windows_memory()
    try:
        return int(sysconf("SC_PHYS_PAGES")) * int(sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):  # the system does not support the name
        return None


def _windows_memory() -> int | None:
    library = getattr(ctypes, "windll", None)
    status = _MemoryStatus()
    status.dwLength = ctypes.sizeof(status)
    if library is None or not library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.ullTotalPhys)
