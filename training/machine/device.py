"""Choice of the device to compute on, and of the arithmetic."""

from __future__ import annotations

import platform

import torch

from training.errors import ConfigError
from training.settings.tree import Precision


def pick_device(wanted: torch.device | str | None) -> torch.device:
    """Return the device asked for, or the best one here (`None` or `auto`).

    Raises:
        ConfigError: it is not there.
    """
    if wanted is None or wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device = {wanted!r}: no such device ({reason}); give cpu, cuda or mps") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        there = ", ".join(name for name, ok in available.items() if ok)
        raise ConfigError(f"--device {wanted}: there is no such device here; choose from {there}")
    return device


def pick_precision(wanted: Precision, device: torch.device) -> Precision:
    """Return the precision to compute in: `auto` becomes bf16 if the hardware multiplies in it, else fp32.

    Emulated bf16 is slower than fp32.

    Raises:
        ConfigError: fp16 on a CPU.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigError("precision=fp16 needs a GPU and this run is on the CPU; use --precision bf16, fp32 or auto")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"):
        has = torch.cpu.get_capabilities()
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
    return "fp32"
