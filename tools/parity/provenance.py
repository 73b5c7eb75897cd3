"""The provenance of a certificate: versions, hardware, and the commit of the checkout."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from training.machine.limits import memory, usable_cores

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "numpy", "deepspeed", "transformers", "accelerate", "tokenizers", "peft")


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that compute; None: not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def hardware(device: str) -> dict[str, Any]:
    """Return the hardware that computed: the processor, and the GPUs if `device` is one."""
    total, _ = memory()
    found: dict[str, Any] = {
        "device": device,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": usable_cores(),
        "memory_bytes": total,
        "threads_per_process": os.environ.get("OMP_NUM_THREADS", "1"),
        "gpus": [],
    }
    if device.startswith("cuda"):
        import torch

        found["gpus"] = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        found["cuda"] = torch.version.cuda
    return found


def _cpu() -> str:
    """Return the processor's name; Linux keeps it where `platform` does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def ranks_here() -> int:
    """Return how many processes a run of several uses here: two, unless the machine has a single GPU."""
    import torch

    return min(2, torch.cuda.device_count()) if torch.cuda.is_available() else 2


def commit() -> Mapping[str, Any] | None:
    """Return the checkout's commit, and whether files differ from it; None outside of a git checkout."""
    identity = _git("rev-parse", "HEAD")
    if identity is None:
        return None
    return {"id": identity, "modified": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return None
    return done.stdout.strip() if done.returncode == 0 else None
