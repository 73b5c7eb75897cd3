"""Azure's virtual machine sizes as far as they are known offline: GPUs, and what came after those that are gone.

A size that is not listed here is passed on: Azure brings new ones every few months, and the service knows them all.
Sources: learn.microsoft.com/azure/virtual-machines, "GPU accelerated sizes" and "Previous generations".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from training.errors import ConfigError

DEFAULT_SIZE = "Standard_NC4as_T4_v3"
"""The cheapest with a GPU that torch's wheels run on: one T4 with 16 GB."""

GPUS: Mapping[str, int] = {
    "Standard_NC4as_T4_v3": 1,
    "Standard_NC8as_T4_v3": 1,
    "Standard_NC16as_T4_v3": 1,
    "Standard_NC64as_T4_v3": 4,
    "Standard_NC24ads_A100_v4": 1,
    "Standard_NC48ads_A100_v4": 2,
    "Standard_NC96ads_A100_v4": 4,
    "Standard_NC40ads_H100_v5": 1,
    "Standard_NC80adis_H100_v5": 2,
    "Standard_NCC40ads_H100_v5": 1,
    "Standard_NV36ads_A10_v5": 1,
    "Standard_NV36adms_A10_v5": 1,
    "Standard_NV72ads_A10_v5": 2,
    "Standard_ND96asr_v4": 8,
    "Standard_ND96amsr_A100_v4": 8,
    "Standard_ND96isr_H100_v5": 8,
    "Standard_ND96isr_H200_v5": 8,
}
"""Size -> whole NVIDIA GPUs of one machine."""

_ONE, _TWO, _FOUR = "Standard_NC24ads_A100_v4", "Standard_NC48ads_A100_v4", "Standard_NC96ads_A100_v4"
_EIGHT = "Standard_ND96isr_H100_v5"
_SMALL, _SMALL_FOUR = DEFAULT_SIZE, "Standard_NC64as_T4_v3"
_K80 = {"6": _SMALL, "12": _SMALL, "24": _SMALL_FOUR, "24r": _SMALL_FOUR}
_FAMILY = {"6s": _ONE, "12s": _TWO, "24s": _FOUR, "24rs": _FOUR}

RETIRED: Mapping[str, tuple[str, str]] = {
    **{f"Standard_NC{n}": ("2023-09-06", to) for n, to in _K80.items()},
    **{f"Standard_NC{n}_Promo": ("2023-09-06", to) for n, to in _K80.items()},
    **{f"Standard_NC{n}_v2": ("2023-09-06", to) for n, to in _FAMILY.items()},
    **{f"Standard_ND{n}": ("2023-09-06", to) for n, to in _FAMILY.items()},
    **{f"Standard_NV{n}": ("2023-09-06", to) for n, to in (("6", _SMALL), ("12", _SMALL), ("24", _SMALL_FOUR))},
    **{f"Standard_NV{n}_Promo": ("2023-09-06", to) for n, to in (("6", _SMALL), ("12", _SMALL), ("24", _SMALL_FOUR))},
    **{f"Standard_NC{n}_v3": ("2025-09-30", to) for n, to in _FAMILY.items()},
    "Standard_ND40s_v2": ("2025-09-30", _EIGHT),
    "Standard_ND40rs_v2": ("2025-09-30", _EIGHT),
    **{f"Standard_NV{n}s_v3": ("2026-09-30", to) for n, to in (("12", _SMALL), ("24", _SMALL), ("48", _SMALL_FOUR))},
    **{f"Standard_NV{n}as_v4": ("2026-09-30", _SMALL) for n in (4, 8, 16, 32)},
}
"""Size -> (the day it was retired, the size to take now, with as many GPUs as there are of these)."""

# Families of machines without a GPU, by the letters before the first digit.
_WITHOUT_GPU = re.compile(r"Standard_(A|B|D|DC|DS|E|EC|F|FX|H|HB|HC|HX|L|M)(?=\d)", re.IGNORECASE)
_SIZE = re.compile(r"(Standard|Basic)_[A-Za-z]+(\d+)[\w-]*", re.ASCII | re.IGNORECASE)

_BY_LOWER_CASE = {name.lower(): name for name in (*GPUS, *RETIRED)}


def _known(name: str) -> str:
    """The name as Azure writes it, where it is listed here."""
    return _BY_LOWER_CASE.get(name.lower(), name)


def check_vm_size(name: str) -> None:
    """Refuse what cannot be the size of a machine today.

    Raises:
        ConfigError: a retired size, with its successor, or no name of a size at all.
    """
    known = _known(name)
    if known in RETIRED:
        day, successor = RETIRED[known]
        cheap = "" if successor == DEFAULT_SIZE else f" (or {DEFAULT_SIZE}, one cheap T4)"
        raise ConfigError(f"vm_size={name}: Azure retired this size on {day}; use --vm-size {successor}{cheap}")
    if _SIZE.fullmatch(name) is None:
        meant = _known(f"Standard_{name}")
        meant = RETIRED[meant][1] if meant in RETIRED else meant
        hint = f"did you mean {meant}?" if meant in GPUS else f"sizes are called as {DEFAULT_SIZE}"
        raise ConfigError(f"vm_size={name!r}: this is no name of a virtual machine size; {hint}")


def gpus_of(name: str | None) -> int | None:
    """Whole NVIDIA GPUs of one machine; None: not known offline."""
    if name is None:
        return None
    if (known := _known(name)) in GPUS:
        return GPUS[known]
    return 0 if _WITHOUT_GPU.match(name) else None


def vcpus_of(name: str | None) -> int | None:
    """Processors of one machine, which Azure writes into the name: 24 of `Standard_NC24ads_A100_v4`; None: unknown."""
    found = _SIZE.fullmatch(name) if name is not None else None
    return int(found[2]) if found else None


def is_known(name: str) -> bool:
    """Whether the size is listed here, in any case of its letters."""
    return name.lower() in _BY_LOWER_CASE


def size_with(gpus: int, like: str | None = None) -> str | None:
    """A present size with at least so many GPUs on one machine, the smallest first; None: there is none.

    Args:
        gpus: of one machine.
        like: a size whose kind of GPU comes before all others.
    """
    kind = _kind(like) if like is not None else ""
    sizes = [
        (_kind(name) != kind, count, place, name) for place, (name, count) in enumerate(GPUS.items()) if count >= gpus
    ]
    return min(sizes)[3] if sizes else None


def _kind(name: str) -> str:
    """`Standard_NC24ads_A100_v4` -> `a100_v4`: the machines of one kind of GPU differ before it."""
    return "_".join(name.lower().split("_")[2:])
