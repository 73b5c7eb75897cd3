"""Memory that a run could get, on the host or on a GPU. No torch; every answer may be None: not known here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

_NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as a huge number


def host_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process could still get: free memory and caches, within its cgroups.

    Args:
        root: directory of `proc` and `sys`.
    """
    found = [amount for amount in (_mem_available(root), *_cgroup_room(root)) if amount is not None]
    if found:
        return max(0, min(found))
    try:  # macOS: all there is; it does not say how much others use
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _mem_available(root: Path) -> int | None:
    for line in _lines(root / "proc" / "meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _cgroup_room(root: Path) -> Iterator[int | None]:
    """Yield the bytes that each limit on the way from this process's memory cgroup to the top leaves."""
    for line in _lines(root / "proc" / "self" / "cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            top, limit, usage, cache = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        place = top / path.lstrip("/")
        # In a container the path is the host's, and the container's own cgroup is mounted at the top.
        for directory in (place, *place.parents):
            if directory.is_relative_to(top):
                yield _room(directory, limit, usage, cache)


def _room(directory: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        most = int((directory / limit).read_text())
        used = int((directory / usage).read_text())
    except (OSError, ValueError):  # not there, or `max`
        return None
    if most >= _NO_LIMIT:
        return None
    given_back = [int(line.split()[1]) for line in _lines(directory / "memory.stat") if line.split()[0] == cache]
    return most - used + sum(given_back)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def gpu_memory() -> int | None:
    """Return the free bytes of the first GPU that this process would see, as nvidia-smi reports; None: no GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = [program, f"--id={visible}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
        return int(done.stdout.split()[0]) << 20
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None


def free_memory_of_gpus() -> dict[str, int | None]:
    """Return UUID -> free bytes of every GPU that nvidia-smi lists; empty: there is no nvidia-smi, or it fails.

    None where it has no figure, as for memory that is shared with the host. A part of a GPU (MIG) is not listed.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if done.returncode != 0:
        return {}
    lines = [line.partition(",") for line in done.stdout.splitlines()]
    return {uuid.strip(): _mebibytes(free) for uuid, comma, free in lines if comma}


def _mebibytes(text: str) -> int | None:
    found = text.strip()
    return int(found) << 20 if found.isascii() and found.isdigit() else None
