"""The most memory that this process has held. Reading it costs microseconds, so a run reads it at each checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from training.machine.ranks import Ranks

Kind = Literal["resident", "cuda_tensors"]
_STATUS = Path("/proc/self/status")


def peak_memory(device_type: str) -> int:
    """Bytes: on CUDA the most that tensors held on this process's GPU, else the largest resident set so far.

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
    """(what `peak_memory` counts here, each rank's figure). Collective; the list is empty but on rank 0."""
    kind: Kind = "cuda_tensors" if ranks.device.type == "cuda" else "resident"
    return kind, ranks.gather(peak_memory(ranks.device.type))


def restart_peak(device_type: str) -> None:
    """Let the peak begin anew at what is held now, where the system can."""
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
