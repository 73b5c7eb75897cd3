"""A checkpoint that all ranks make together: rank 0 writes the portable state, each may add its engine's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.checkpoints.checkpoint import begin, commit
from training.engines.torch_engine import Engine
from training.machine.ranks import Ranks
from training.storage.atomic import temporary_of
from training.storage.disk_refusals import disk_refusals


def save_together(path: Path, ranks: Ranks, engine: Engine, payload: Mapping[str, Any]) -> None:
    """Write the engine's state and `payload` as the checkpoint `path`, whole or not at all. Every rank calls it.

    Raises:
        UserError: the disk is full or refuses, on every rank; earlier checkpoints are intact.
    """
    state = engine.state_dict()
    temporary = temporary_of(path)
    ranks.on_main(lambda: begin(path))
    with disk_refusals(path, temporary):
        engine.save_extra(temporary)
    ranks.barrier()
    origin = {"world_size": ranks.world_size, "device": ranks.device.type}
    ranks.on_main(lambda: commit(temporary, path, {**payload, **origin, "engine": state}))
