"""Seeding of the global random generators of Python, NumPy and torch."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_everything(seed: int, device: torch.device | None = None) -> None:
    """Seed Python's, NumPy's and torch's global generators: of all devices, or of the CPU and this device alone."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_torch(seed % 2**63, device)


def seed_torch(seed: int, device: torch.device | None = None) -> None:
    """Seed torch's global generators, of all devices, or of the CPU and this device alone.

    A batch on the CPU is seeded for the CPU alone: of each kind of device that nobody has used yet, `torch.manual_seed`
    keeps a stack trace (torch 2.13), a tenth of the time of a small model's update.
    """
    if device is not None and device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


@contextlib.contextmanager
def own_random_streams(seed: int, device: torch.device) -> Iterator[None]:
    """Seed all global generators for what is drawn inside, and put them back to where they were.

    Args:
        seed: of the draws inside.
        device: the one that computes, whose generator is kept too.
    """
    python, numpy = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices, device_type="cuda"):
            seed_everything(seed, device)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
