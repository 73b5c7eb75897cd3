"""Weight snapshots of a run: bf16 weights at evenly spaced steps, at most `snapshots` of them. No torch to list them.

    RUN/snapshots/step_000000128.safetensors      parameters by name, bf16

The kept steps are a pure function of the setting and of the run's length: the multiples of the smallest power of two
for which they are few enough. So a run that is killed and resumed keeps the same ones, and a run that is extended keeps
every second of its earlier ones. `tools/loss_landscape.py` reads the files.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from training.language.messages import Message
from training.loop.callbacks import Callback, RunView
from training.settings.tree import TrainingConfig
from training.storage.atomic import delete, temporary_of
from training.storage.run_files import RunFile
from training.storage.tensor_files import save_tensors

if TYPE_CHECKING:
    from torch import nn

    from training.engines.results import UpdateResult

FORMAT = "apt-snapshot"
SNAPSHOTS_NAME = "snapshots"
RUN_FILES = (RunFile(SNAPSHOTS_NAME, is_taken_over=True, artefact="snapshot"),)
DEFAULT_LIMIT = 64
LARGEST_BY_DEFAULT = 2_000_000
"""Number of parameters above which snapshots are kept only on request: 64 of them would take more than 256 MB."""
BYTES_PER_PARAMETER = 2
_NAME = re.compile(r"step_(\d+)\.safetensors")


def snapshot_limit(config: TrainingConfig, num_parameters: int) -> int:
    """Return the largest number of snapshots of a run; 0: none."""
    given = config.checkpoint.snapshots
    if given is None:
        return DEFAULT_LIMIT if num_parameters <= LARGEST_BY_DEFAULT else 0
    return given


def snapshot_stride(limit: int, total_steps: int) -> int:
    """Return the number of updates between two snapshots.

    It is the smallest power of two for which 0, stride, 2·stride, … total_steps are at most `limit` (at least 1)
    snapshots. They are more than half of `limit`, if the run is that long.
    """
    stride = 1
    while total_steps // stride + 1 > limit:
        stride *= 2
    return stride


def snapshot_bytes(config: TrainingConfig, total_steps: int, num_parameters: int) -> int:
    """Return the bytes of all snapshots of a run; 0: it keeps none."""
    limit = snapshot_limit(config, num_parameters)
    count = total_steps // snapshot_stride(limit, total_steps) + 1 if limit else 0
    return count * num_parameters * BYTES_PER_PARAMETER


def snapshot_path(run_dir: Path, step: int) -> Path:
    """Return the path of the weights after `step` updates."""
    return run_dir / SNAPSHOTS_NAME / f"step_{step:09d}.safetensors"


def snapshot_files(run_dir: Path) -> list[tuple[int, Path]]:
    """Return (updates done, file) of a run's snapshots, ascending. No file is opened."""
    found = ((_NAME.fullmatch(path.name), path) for path in (run_dir / SNAPSHOTS_NAME).glob("step_*.safetensors"))
    return sorted((int(name[1]), path) for name, path in found if name)


class WeightSnapshots(Callback):
    """Callback that keeps a run's snapshots. It draws no random number and changes nothing of the run.

    A failed write does not end the run: it is reported once, and the next snapshot is tried.
    """

    on_every_rank = True  # at ZeRO 3 the weights are gathered from all ranks

    def __init__(self) -> None:
        self._limit = 0
        self._stride = 1
        self._told = False

    def on_run_start(self, trainer: RunView) -> None:
        """Delete snapshots of another run or of steps to be repeated, and those too dense for the run's new length."""
        self._limit = snapshot_limit(trainer.config, trainer.num_parameters)
        if self._limit:
            self._stride = snapshot_stride(self._limit, trainer.total_steps)
        if trainer.ranks.is_main:
            self._tidy(trainer.directory.path, trainer.step)
        self._take_if_due(trainer)

    def on_step(self, trainer: RunView, result: UpdateResult) -> None:
        """Write the weights if this step is one to keep."""
        self._take_if_due(trainer)

    def _tidy(self, run_dir: Path, step: int) -> None:
        for path in (run_dir / SNAPSHOTS_NAME).glob(".*.tmp"):  # the rest of a killed write
            delete(path)
        for taken, path in snapshot_files(run_dir):
            if taken > step or step == 0 or taken % self._stride:
                delete(path)

    def _take_if_due(self, trainer: RunView) -> None:
        if not self._limit or trainer.step % self._stride:
            return
        model = trainer.engine.model()
        if not trainer.ranks.is_main:
            return
        path = snapshot_path(trainer.directory.path, trainer.step)
        try:
            write_snapshot(path, model)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                delete(temporary_of(path))
            if not self._told:
                self._told = True
                trainer.reporter.warning(
                    Message(
                        "{path}: the snapshot could not be written ({error}); the run goes on, its path has a gap",
                        path=path,
                        error=error,
                    ),
                    step=trainer.step,
                )


def write_snapshot(path: Path, model: nn.Module) -> None:
    """Write a module's parameters in bf16, atomically with respect to kills; a tied one once.

    Raises:
        OSError, SafetensorError: the disk is full or cannot be written.
    """
    import torch

    weights = {
        name: parameter.detach().to(torch.bfloat16).cpu().contiguous() for name, parameter in model.named_parameters()
    }
    path.parent.mkdir(exist_ok=True)
    temporary = temporary_of(path)
    delete(temporary)
    # More than one entry would be written in random order, and equal weights would not give equal files.
    save_tensors(weights, temporary, {"format": FORMAT})
    temporary.replace(path)
