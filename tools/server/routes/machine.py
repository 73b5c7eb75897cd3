"""The machine behind the server: processors, memory, disk, GPUs, and the queue of jobs."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from tools.server.gate.state import ServerState
from training.experiments.jobs.states import JobState
from training.machine.free_memory import host_memory
from training.machine.hardware import count_cores

_STAT, _MEMORY = Path("/proc/stat"), Path("/proc/meminfo")
GPU_FIELDS = ("name", "uuid", "memory.used", "memory.total", "utilization.gpu", "temperature.gpu")
SECONDS_KEPT = 2.0
"""Age of the figures of the GPUs: nvidia-smi takes a good part of a second."""


class Machine:
    """Figures of this machine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processors: tuple[float, float] | None = _busy_and_all()
        self._percent: float | None = None
        self._gpus: list[dict[str, Any]] = []
        self._gpus_read_at = -SECONDS_KEPT

    def cpu_percent(self) -> float | None:
        """Return the busy share of all processors since the last call; None: the system does not say."""
        with self._lock:
            before, now = self._processors, _busy_and_all()
            if before is not None and now is not None and now[1] > before[1]:
                self._percent = 100.0 * (now[0] - before[0]) / (now[1] - before[1])
                self._processors = now
            return self._percent

    def gpus(self) -> list[dict[str, Any]]:
        """Return the GPUs with their memory in bytes, as nvidia-smi has them; empty: it is not here."""
        with self._lock:
            if time.monotonic() - self._gpus_read_at >= SECONDS_KEPT:
                self._gpus, self._gpus_read_at = _ask_for_gpus(), time.monotonic()
            return self._gpus


def memory_of_host() -> dict[str, int | None]:
    """Return used and total bytes of memory; used is what no program could get, so caches do not count."""
    total = None
    try:
        for line in _MEMORY.read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal:"):
                total = int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return {"used": None, "total": None}
    free = host_memory()
    return {"used": None if free is None or total is None else max(0, total - free), "total": total}


def _busy_and_all() -> tuple[float, float] | None:
    """Return busy and all time of the processors since the machine started, in the kernel's units."""
    try:
        numbers = [int(word) for word in _STAT.read_text(encoding="ascii").split(maxsplit=9)[1:9]]
    except (OSError, ValueError):
        return None
    idle = numbers[3] + numbers[4]
    return float(sum(numbers) - idle), float(sum(numbers))


def _ask_for_gpus() -> list[dict[str, Any]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [*map(_gpu, done.stdout.splitlines())] if done.returncode == 0 else []


def _gpu(line: str) -> dict[str, Any]:
    """Read one line of nvidia-smi; a figure that the GPU does not give is None."""
    name, identity, used, total, busy, degrees = ([word.strip() for word in line.split(",")] + [""] * 6)[:6]

    def number(text: str, scale: int = 1) -> int | None:
        return int(text) * scale if text.isdecimal() else None

    return {
        "name": name,
        "uuid": identity,
        "memory": {"used": number(used, 2**20), "total": number(total, 2**20)},
        "percent": number(busy),
        "celsius": number(degrees),
    }


def make_router(state: ServerState) -> APIRouter:
    """Return the route of the machine."""
    router = APIRouter(prefix="/api")
    machine = Machine()

    @router.get("/machine", summary="Return the load of the machine, and the state of the queue")
    def figures() -> dict[str, Any]:
        disk, queue = shutil.disk_usage(state.root), state.queue
        waiting = sum(job.state is JobState.QUEUED for job in queue.jobs())
        return {
            "cpu_percent": machine.cpu_percent(),
            "cores": count_cores(),
            "memory": memory_of_host(),
            "disk": {"free": disk.free, "total": disk.total},
            "gpus": machine.gpus(),
            "queue": {"slots": len(queue.slots), "used": len(queue.used_slots()), "queued": waiting},
        }

    return router
