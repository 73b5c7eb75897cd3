"""Cores and main memory that this process may use, within the limits of its container. No torch."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


class Memory(NamedTuple):
    """Main memory in bytes; None where the system does not report it."""

    total: int | None
    available: int | None


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, or a container's quota (rounded up) if that is less."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = _read(_CGROUP / "cpu.max").split()  # "200000 100000": microseconds of work, in a period of how many
    if len(words) == 2 and all(word.isdigit() for word in words):
        return max(1, min(affinity, math.ceil(int(words[0]) / int(words[1]))))
    return affinity


def memory() -> Memory:
    """Return the memory of the machine or, where that is less, of the container."""
    total = available = None
    for line in _read(_MEMINFO).splitlines():
        words = line.split()
        if words[0] == "MemTotal:":
            total = int(words[1]) * 1024
        elif words[0] == "MemAvailable:":
            available = int(words[1]) * 1024
    if total is None and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):  # macOS
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit, used = _read(_CGROUP / "memory.max").strip(), _read(_CGROUP / "memory.current").strip()
    if total is not None and limit.isdigit() and int(limit) < total:
        total = int(limit)
        if available is not None and used.isdigit():
            available = min(available, max(0, total - int(used)))
    return Memory(total, available)


def _read(path: Path) -> str:
    """Return the text of a system file; empty where the system has no such file."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
