"""Small sweeps, and a front door in this process that trains their runs: no process is started for each."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import TINY_SETTINGS, enter_front_door
from training.backends.prepare import choose, prepare
from training.experiments.sweep.local_sweep import LocalSweep
from training.experiments.sweep.options import LocalSweepOptions
from training.settings.layers import Layer
from training.settings.tree import TrainingConfig
from training.settings.yaml_files import flatten

SMALL: dict[str, Any] = {
    **TINY_SETTINGS,
    "epochs": 2,
    "save_interval": 1,
    "snapshots": 0,
    "validation_split": 0.25,
    "seed": 5,
}
"""Settings with which a trial takes a few updates."""
SPACE = "learning_rate=1e-3..3e-2 log, d_model=16|32"


def small_sweep(
    directory: Path, data: Path, *, resume: bool = False, settings: dict[str, Any] | None = None, **options: Any
) -> LocalSweep:
    """Return a sweep that nobody has begun yet, or that goes on.

    Args:
        directory: of the sweep.
        data: an HLBD file.
        resume: it goes on.
        settings: of its runs, by name.
        options: of the sweep, by name.
    """
    choice = choose(resume=resume)
    given = {**SMALL, "datasets": [str(data)], "run_dir": str(directory), **(settings or {})}
    prepared = prepare(choice, [Layer("the test", flatten(given, choice.config_class, "the test"))])
    chosen = {"search": SPACE, "max_trials": 3, "confirm_seeds": 0, **options}
    return LocalSweep(prepared, LocalSweepOptions.model_validate(chosen))


def train_here(config: TrainingConfig, flags: Sequence[str]) -> int:
    """Train a run of a sweep by the front door of this process; return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        config.to_yaml(file)
        return enter_front_door(["--config", file, *flags]).exit_code
