"""The directory of a run: who may write there, and what is called what."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from training.checkpoints.manifest import BEST_NAME, checkpoint_directories
from training.errors import UserError
from training.record.reporter import LOG_NAME, REPORT_NAME
from training.storage.atomic import delete, put_back

CONFIG_NAME = "config.yaml"
FINAL_NAME = "final_model.pt"
MODEL_DIRECTORY = "final_model"
LOCK_NAME = ".lock"
DEEPSPEED_NAMES = ("deepspeed_config.json", "zero_to_fp32.py", "zero_to_torch.py")
"""What its backend and DeepSpeed itself write beside the checkpoints."""
TRACKER_NAMES = ("trackers.json", "wandb")
"""What trackers write, besides TensorBoard's files in logs/."""
SNAPSHOTS_NAME = "snapshots"
"""Weights along the run's path (`training/loop/weight_snapshots.py`)."""
LANDSCAPE_NAME = "landscape"
"""What was measured along it (`tools/landscape/`)."""
COMPARISON_NAME = "comparison.json"
"""What a control experiment found (`training/experiments/comparison.py`)."""
JOB_NAME = "azure_job.json"
"""Which job in Azure fills the directory (`training/azure/service/job_file.py`)."""


def checkpoint_name(step: int, epoch: int | None = None) -> str:
    """What a checkpoint after update `step` is called; `epoch` is the one that ends there, from 1."""
    return f"checkpoint_step_{step}" if epoch is None else f"checkpoint_epoch_{epoch}"


class RunDirectory:
    """Claims a directory for one run and one process.

    Args:
        path: created if it is missing.
        checkpoint_name: (step, epoch that ends there or None) -> what a checkpoint is called.
        resume: the run in it goes on.
        overwrite: delete the run in it. Only what a run writes is deleted, never a user's other files.
        claim: False: only know what is called what (the ranks other than 0).

    Raises:
        UserError: it cannot be written to, holds another run, or another process is training in it.
    """

    def __init__(
        self,
        path: Path,
        checkpoint_name: Callable[[int, int | None], str] = checkpoint_name,
        *,
        resume: bool = False,
        overwrite: bool = False,
        claim: bool = True,
    ) -> None:
        self.path = path
        self._checkpoint_name = checkpoint_name
        self._made: list[Path] = []
        self._lock: IO[str] | None = None
        if claim:
            self._claim(resume, overwrite)

    def _claim(self, resume: bool, overwrite: bool) -> None:
        path = self.path
        if path.exists() and not path.is_dir():
            raise UserError(f"--run-dir {path}: this is a file, not a directory; choose another")
        holds_run = self.holds_run()
        if holds_run and not (resume or overwrite):
            raise UserError(
                f"--run-dir {path}: it holds a run already ({', '.join(holds_run)}); go on with it (--resume), "
                "delete it (--overwrite) or choose another --run-dir"
            )
        # Made for this run: taken away again if nothing comes of it.
        self._made = [p for p in (path, *path.parents) if not p.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / LOCK_NAME).open("w")
        except OSError as error:
            raise UserError(f"--run-dir {path}: it cannot be written to ({error.strerror}); choose another") from error
        if not _try_lock(self._lock):
            self._lock.close()
            raise UserError(f"--run-dir {path}: another process is training in it; wait for it or choose another")
        for aside in path.glob(".checkpoint[_-]*.old"):  # what a kill left
            put_back(aside)
        for leftover in path.glob(".*.tmp"):
            delete(leftover)
        if overwrite:
            self.delete_run()

    def holds_run(self) -> list[str]:
        """Names of the files that show a run was here."""
        names = [LOG_NAME, REPORT_NAME, FINAL_NAME, MODEL_DIRECTORY, JOB_NAME]
        found = [name for name in names if (self.path / name).exists()]
        return found + [p.name for p in checkpoint_directories(self.path)][:3]

    def delete_run(self) -> None:
        """Delete all that a run writes, and nothing else."""
        own = (
            LOG_NAME, REPORT_NAME, FINAL_NAME, MODEL_DIRECTORY, CONFIG_NAME, SNAPSHOTS_NAME, LANDSCAPE_NAME,
            COMPARISON_NAME, JOB_NAME,
        )  # fmt: skip
        for name in (*own, *DEEPSPEED_NAMES, *TRACKER_NAMES):
            delete(self.path / name)
        for path in (self.path / "logs").glob("events.out.tfevents.*"):
            delete(path)
        for path in checkpoint_directories(self.path):
            delete(path)

    def checkpoint(self, step: int, epoch: int | None = None) -> Path:
        """Checkpoint after update `step`; `epoch`, from 1, where it is one at that epoch's end."""
        return self.path / self._checkpoint_name(step, epoch)

    @property
    def best_checkpoint(self) -> Path:
        """The best so far."""
        return self.path / BEST_NAME

    @property
    def final_model(self) -> Path:
        """The finished model in one file."""
        return self.path / FINAL_NAME

    @property
    def portable_model(self) -> Path:
        """The finished model as a directory that every backend writes alike."""
        return self.path / MODEL_DIRECTORY

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / CONFIG_NAME

    def release(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.close()
            (self.path / LOCK_NAME).unlink(missing_ok=True)
            self._lock = None
            for directory in self._made:  # innermost first; one that holds anything stays
                with contextlib.suppress(OSError):
                    directory.rmdir()


def _try_lock(file: IO[str]) -> bool:
    """A lock that ends with the process, also when it is killed."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
