"""Slots of this machine, each of which one job occupies: its GPUs, or so many places on the CPU. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from training.machine.hardware import gpu_uuids

_CPU = "cpu-"


def slots_of_machine(cpu_slots: int) -> tuple[str, ...]:
    """Return the names of the slots: the UUIDs of the GPUs that a CUDA program would see, else `cpu-0` and so on.

    A GPU's number may change when the computer starts again, its UUID never does.

    Args:
        cpu_slots: how many jobs may train at a time where there is no GPU.
    """
    return gpu_uuids() or tuple(f"{_CPU}{number}" for number in range(cpu_slots))


def free_slots(slots: Sequence[str], used: Collection[str]) -> list[str]:
    """Return the slots that no job occupies, in order."""
    return [slot for slot in slots if slot not in used]


def environment_of(slots: Sequence[str]) -> Mapping[str, str]:
    """Return the variables by which a program sees just the GPUs that it was given; none for slots of the CPU."""
    gpus = [slot for slot in slots if not slot.startswith(_CPU)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
