"""Physical memory of the machine."""

import ctypes
import os

__all__ = ["physical_memory"]


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
