"""Preparation of a process for DeepSpeed: what it expects to find, and what it should leave alone."""

from __future__ import annotations

import logging
import warnings

import torch.distributed as dist

from training.machine.environment import variables_set
from training.machine.ranks import Ranks


def prepare_deepspeed(ranks: Ranks) -> None:
    """Prepare this process for DeepSpeed on its device, even if it is the only one."""
    if not dist.is_initialized():
        store = dist.HashStore()  # type: ignore[attr-defined]  # public, but missing in torch's own list
        dist.init_process_group(store=store, rank=0, world_size=1)
    with variables_set(DS_ACCELERATOR=ranks.device.type):
        import deepspeed

        deepspeed.get_accelerator()  # it reads the variable once

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # DeepSpeed 0.19 calls collectives under names that torch 2.13 has deprecated, several times per update.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    if ranks.device.type == "cpu":
        # An extra collective for the CPU, compiled at first use: it needs a compiler and half a minute; gloo needs
        # neither.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
