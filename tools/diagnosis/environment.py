"""The machine: Python, cores, memory, disk, and how torch uses them."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.diagnosis.findings import Finding, Status
from tools.figures.wording import size_text
from training.machine.commands import ROOT, interpreter, pip_command, python_command, shown
from training.machine.limits import memory, usable_cores

SECTION = "environment"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# A checkpoint of the default model with AdamW is about 75 MB, and a run of 100 epochs keeps four and a final model.
_LITTLE_DISK, _NO_DISK = 2**30, 100 * 2**20
_LITTLE_MEMORY = 2**30
"""Training the default model takes about 0.6 GiB, most of it torch itself."""


def diagnose_environment(paths: Sequence[Path]) -> Iterator[Finding]:
    """Check the interpreter, the machine and torch; the disks are those that hold `paths`."""
    yield _python()
    cores = usable_cores()
    yield Finding(SECTION, "cores", Status.OK, f"{cores} for this process", facts={"cores": cores})
    yield _memory()
    yield from _disks(paths)
    yield from _torch(cores)


def _python() -> Finding:
    """Check the interpreter: the system's own is not the one that `make setup` has installed everything for."""
    message = f"{platform.python_version()} ({shown(Path(sys.executable))}) on {platform.platform()}"
    own = ROOT / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if sys.prefix == sys.base_prefix and own.exists():
        fix = f"{shlex.quote(shown(own))} {shlex.quote(shown(ROOT / 'tools' / 'diagnose_issues.py'))}"
        return Finding(SECTION, "python", Status.WARNING, f"{message}; the checkout has its own in .venv", fix)
    return Finding(SECTION, "python", Status.OK, message)


def _memory() -> Finding:
    total, available = memory()
    facts = {"total_bytes": total, "available_bytes": available}
    if total is None:
        return Finding(SECTION, "memory", Status.OK, "this system does not report how much there is", facts=facts)
    free = total if available is None else available
    message = f"{size_text(total)}" + (f", {size_text(available)} available" if available is not None else "")
    if free < _LITTLE_MEMORY:
        # The same curve as with batches of 32, in a quarter of the memory for activations.
        fix = python_command("train.py", "--batch-size", "8", "--gradient-accumulation-steps", "4")
        return Finding(SECTION, "memory", Status.WARNING, f"{message}: not much for training", fix, facts=facts)
    return Finding(SECTION, "memory", Status.OK, message, facts=facts)


def _disks(paths: Sequence[Path]) -> Iterator[Finding]:
    """Check the free space at the paths, each disk once."""
    seen: set[int] = set()
    for path in paths:
        device = path.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(path).free
        message = f"{size_text(free)} free at {shown(path)}"
        facts = {"path": str(path), "free_bytes": free}
        if free >= _LITTLE_DISK:
            yield Finding(SECTION, "disk", Status.OK, message, facts=facts)
            continue
        status = Status.ERROR if free < _NO_DISK else Status.WARNING
        fix = "delete old runs (their sizes are below), or train with --keep-last 1 and --run-dir on another disk"
        yield Finding(SECTION, "disk", status, f"{message}: checkpoints may not fit", fix, facts=facts)


def _torch(cores: int) -> Iterator[Finding]:
    try:
        import torch

        from training.machine.device import pick_device, pick_precision
    except (ImportError, OSError) as error:  # OSError: a shared library of torch is missing or damaged
        yield Finding(SECTION, "torch", Status.ERROR, f"cannot be imported: {error}", pip_command())
        return
    device = pick_device(None)
    there = f"{torch.__version__}, device {device.type}"
    facts: dict[str, Any] = {"version": torch.__version__, "device": device.type, "gpus": []}
    if device.type == "cuda":
        gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        there += ": " + ", ".join(f"{gpu.name} ({size_text(gpu.total_memory)})" for gpu in gpus)
        facts["gpus"] = [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in gpus]
    if device.type == "cpu" and (Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")):
        version = torch.__version__.partition("+")[0]
        fix = f"{interpreter()} -m pip install --force-reinstall --no-deps torch=={version}"
        if torch.version.cuda is not None:
            fix = "nvidia-smi"  # the build is right, so the driver needs a look
        message = f"{there}, although this machine has an NVIDIA driver"
        yield Finding(SECTION, "torch", Status.WARNING, message, fix, facts=facts)
    else:
        yield Finding(SECTION, "torch", Status.OK, there, facts=facts)
    precision = pick_precision("auto", device)
    choice = "bf16: the hardware multiplies in it" if precision == "bf16" else "fp32: no hardware for bf16 here"
    yield Finding(SECTION, "precision", Status.OK, f"auto takes {choice}", facts={"auto": precision})
    yield diagnose_threads(torch.get_num_threads(), cores)


def diagnose_threads(threads: int, cores: int) -> Finding:
    """Check for too many threads for the cores, and for a variable that limits torch to fewer."""
    given = {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ}
    said = "".join(f", {name}={value}" for name, value in given.items())
    facts = {"threads": threads, "cores": cores, "variables": given}
    message = f"torch uses {threads} on {cores} cores{said}"
    if threads > cores:
        fix = f"export OMP_NUM_THREADS={cores}"
        return Finding(SECTION, "threads", Status.WARNING, f"{message}: they wait for each other", fix, facts=facts)
    if given and threads < cores:
        fix = f"unset {' '.join(given)}"
        return Finding(SECTION, "threads", Status.WARNING, f"{message}: cores stay idle", fix, facts=facts)
    return Finding(SECTION, "threads", Status.OK, message, facts=facts)
