"""A machine, as far as it decides how a run can be laid out: GPUs, memory, cores. No torch.

Read once from the machine itself (`this_machine`), or written by hand:

    Machine(cores=64, host_bytes=200 * GB, gpus=(Gpu("NVIDIA A100-SXM4-80GB", 79 * GB),) * 8)
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from training.machine.free_memory import free_memory_of_gpus, host_memory
from training.machine.hardware import count_cores, count_gpus, gpu_identities

UNKNOWN_DEVICE = "unknown device"


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str = UNKNOWN_DEVICE
    free_bytes: int | None = None
    """Bytes that a run could get. None: not known, which is neither 0 nor enough."""


@dataclass(frozen=True)
class Machine:
    """Resources that a run could get now."""

    cores: int
    host_bytes: int | None
    """Main memory in bytes; None: not known."""
    gpus: tuple[Gpu, ...] = ()
    """GPUs that a program of CUDA would see, in its order."""
    counts_gpus: bool = True
    """True: `gpus` are all of them; False: there is at least one, and the driver does not say how many (AMD)."""
    has_mps: bool = False
    """True on a Mac with a GPU of Apple's, which shares the main memory."""
    multiplies_bf16: bool = False
    """True if the processor multiplies in bf16."""

    def device(self, wanted: Literal["auto", "cpu", "cuda", "mps"]) -> Literal["cpu", "cuda", "mps"]:
        """Return the kind of device that a run would compute on, as `training.machine.device.pick_device` picks it."""
        if wanted != "auto":
            return wanted
        if self.gpus:
            return "cuda"
        return "mps" if self.has_mps else "cpu"


def this_machine() -> Machine:
    """Describe this machine: asks the driver and the kernel, opens no context on any GPU."""
    count = count_gpus()
    return Machine(
        cores=count_cores(),
        host_bytes=host_memory(),
        gpus=(Gpu(),) if count is None else _gpus(count),
        counts_gpus=count is not None,
        has_mps=has_mps(),
        multiplies_bf16=multiplies_bf16(),
    )


def _gpus(count: int) -> tuple[Gpu, ...]:
    if count == 0:
        return ()
    free, found = free_memory_of_gpus(), gpu_identities()
    if len(found) != count:  # an old driver, which does not name them
        return (Gpu(),) * count
    return tuple(Gpu(gpu.name, free.get(gpu.uuid)) for gpu in found)


def has_mps() -> bool:
    """Return whether this is a Mac with a GPU of Apple's."""
    return (platform.system(), platform.machine()) == ("Darwin", "arm64")


def multiplies_bf16() -> bool:
    """Return whether the processor multiplies in bf16, by its own list of features (Linux)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
