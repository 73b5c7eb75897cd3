"""Usage of this machine: the most memory that this process has held, and the load of other programs.

Reading them costs microseconds, so a run reads them at each checkpoint. No torch at import.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from training.machine.ranks import Ranks

Kind = Literal["resident", "cuda_tensors"]
_STATUS = Path("/proc/self/status")
_STAT = Path("/proc/stat")


def peak_memory(device_type: str) -> int:
    """Return in bytes the most that tensors held on this process's GPU (CUDA), else the largest resident set so far.

    Args:
        device_type: `cpu`, `cuda` or `mps`. MPS shares the host's memory, and its tensors count as resident there.
    """
    if device_type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    # Not getrusage's ru_maxrss on Linux: a process starts with the figure of the one that started it, so a worker of a
    # large launcher would report the launcher's size.
    resident = _from_status("VmHWM")
    if resident is not None:
        return resident
    try:
        import resource
    except ImportError:  # Windows
        return _windows_peak()
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def peak_of_each(ranks: Ranks) -> tuple[Kind, list[int]]:
    """Return what `peak_memory` counts here, and each rank's figure. Collective; the list is empty but on rank 0."""
    kind: Kind = "cuda_tensors" if ranks.device.type == "cuda" else "resident"
    return kind, ranks.gather(peak_memory(ranks.device.type))


def restart_peak(device_type: str) -> None:
    """Restart the peak at what is held now, where the system can."""
    if device_type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        try:
            clear.write_text("5")
        except OSError:
            return  # a container may forbid it; the peak then goes back to the start of the process


def _from_status(name: str) -> int | None:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None


def _windows_peak() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("cb", wintypes.DWORD),
            ("PageFaultCount", wintypes.DWORD),
            ("PeakWorkingSetSize", ctypes.c_size_t),
            ("WorkingSetSize", ctypes.c_size_t),
            ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
            ("QuotaPagedPoolUsage", ctypes.c_size_t),
            ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
            ("QuotaNonPagedPoolUsage", ctypes.c_size_t),
            ("PagefileUsage", ctypes.c_size_t),
            ("PeakPagefileUsage", ctypes.c_size_t),
        )

    counters = Counters()
    counters.cb = ctypes.sizeof(counters)
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  # only on Windows
    kernel.K32GetProcessMemoryInfo(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
    return int(counters.PeakWorkingSetSize)


class OtherLoad:
    """Share of the processors that other programs take while something is timed, by the kernel's own counters.

    It counts from the moment it is made. A processor is busy if it is neither idle nor waiting for a disk; on a virtual
    machine also while its host serves others ("steal"). This process's own share includes its children once they have
    ended and were waited for.
    """

    def __init__(self) -> None:
        self._before = _now()

    def share(self) -> float | None:
        """Return the share of all processors' time, 0 to 1; None: the system does not say (not Linux)."""
        now = _now()
        if now is None or self._before is None:
            return None
        seconds, busy, own = (new - old for new, old in zip(now, self._before, strict=True))
        # The kernel counts in hundredths of a second, each counter on its own.
        return min(1.0, max(0.0, busy - own) / max(1e-9, seconds * (os.cpu_count() or 1)))


def _now() -> tuple[float, float, float] | None:
    """Return seconds on the clock, busy seconds of all processors, and busy seconds of this process."""
    try:
        words = _STAT.read_text(encoding="ascii").split(maxsplit=9)
    except OSError:
        return None
    user, nice, system, _idle, _waiting, irq, soft, steal = map(int, words[1:9])
    busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), busy, sum(os.times()[:4])
