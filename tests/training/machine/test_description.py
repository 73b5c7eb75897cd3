"""A machine as it is described: GPUs by the driver, free memory by nvidia-smi, and nothing invented between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from training.machine import description
from training.machine.description import UNKNOWN_DEVICE, Gpu, Machine, this_machine
from training.machine.free_memory import free_memory_of_gpus
from training.machine.hardware import GpuIdentity

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = "GPU-11111111-2222-3333-4444-555555555555", "GPU-99999999-2222-3333-4444-555555555555"


def bring_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str, code: int = 0) -> None:
    """Put a program of that name, which prints these lines, in the place of the driver's."""
    program = folder / "nvidia-smi"
    shown = "".join(f"echo '{line}'\n" for line in lines)
    program.write_text(f"#!/bin/sh\n{shown}exit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_this_machine_is_described_without_a_guess() -> None:
    found = this_machine()
    assert found.cores >= 1
    assert found.host_bytes is None or found.host_bytes > 0
    assert all(gpu.free_bytes is None or gpu.free_bytes >= 0 for gpu in found.gpus)


def test_free_memory_is_matched_by_uuid_and_what_is_not_reported_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_nvidia_smi(tmp_path, monkeypatch, f"{SECOND}, [N/A]", f"{FIRST}, 40000")
    assert free_memory_of_gpus() == {FIRST: 40000 << 20, SECOND: None}
    part = GpuIdentity("MIG-33333333-2222-3333-4444-555555555555", "NVIDIA A100 MIG 1g.10gb")  # nvidia-smi lists none
    named = (GpuIdentity(FIRST, "NVIDIA A100"), GpuIdentity(SECOND, "NVIDIA GB10"), part)
    monkeypatch.setattr(description, "count_gpus", lambda: 3)
    monkeypatch.setattr(description, "gpu_identities", lambda: named)
    assert this_machine().gpus == (Gpu("NVIDIA A100", 40000 << 20), Gpu("NVIDIA GB10", None), Gpu(part.name, None))


def test_a_program_that_fails_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring_nvidia_smi(tmp_path, monkeypatch, "NVIDIA-SMI has failed", code=9)
    assert free_memory_of_gpus() == {}


@pytest.mark.parametrize(("count", "gpus"), [(None, 1), (2, 2), (0, 0)])
def test_gpus_that_the_driver_does_not_name_are_unknown_devices_of_unknown_memory(
    count: int | None, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(description, "count_gpus", lambda: count)
    monkeypatch.setattr(description, "gpu_identities", lambda: ())
    found = this_machine()
    assert found.gpus == (Gpu(UNKNOWN_DEVICE, None),) * gpus
    assert found.counts_gpus is (count is not None)


def test_a_run_computes_on_the_gpu_where_there_is_one_unless_another_device_is_named() -> None:
    assert Machine(8, None, (Gpu(),)).device("auto") == "cuda"
    assert Machine(8, None, has_mps=True).device("auto") == "mps"
    assert Machine(8, None).device("auto") == "cpu"
    assert Machine(8, None, (Gpu(),)).device("cpu") == "cpu"
