"""The directory of a run: who may write there, and what is called what."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO

from apt_model.errors import UserError
from training.checkpoint import BEST_NAME, FINAL_NAME
from training.progress import LOG_NAME, REPORT_NAME

CONFIG_NAME = "config.yaml"
MODEL_DIRECTORY = "final_model"
LOCK_NAME = ".lock"


class RunDirectory:
    """Claims a directory for one run and one process.

    Args:
        path: created if it is missing.
        resume: the run in it goes on.
        overwrite: delete the run in it. Only what a run writes is deleted, never a user's other files.

    Raises:
        UserError: it cannot be written to, holds another run, or another process is training in it.
    """

    def __init__(self, path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = path
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
            self._lock: IO[str] | None = (path / LOCK_NAME).open("w")
        except OSError as error:
            raise UserError(f"--run-dir {path}: it cannot be written to ({error.strerror}); choose another") from error
        if not _try_lock(self._lock):
            self._lock.close()
            raise UserError(f"--run-dir {path}: another process is training in it; wait for it or choose another")
        for leftover in path.glob(".*.tmp"):
            _delete(leftover)
        if overwrite:
            self._delete_run()

    def holds_run(self) -> list[str]:
        """Names of the files that show a run was here."""
        names = [LOG_NAME, REPORT_NAME, FINAL_NAME, MODEL_DIRECTORY]
        found = [name for name in names if (self.path / name).exists()]
        return found + sorted(p.name for p in self.path.glob("checkpoint_*.pt"))[:3]

    def _delete_run(self) -> None:
        for name in (LOG_NAME, REPORT_NAME, FINAL_NAME, MODEL_DIRECTORY, CONFIG_NAME):
            _delete(self.path / name)
        for path in self.path.glob("checkpoint_*.pt"):
            _delete(path)

    def epoch_checkpoint(self, epoch: int) -> Path:
        """Checkpoint at the end of an epoch, counted from 1."""
        return self.path / f"checkpoint_epoch_{epoch}.pt"

    def step_checkpoint(self, step: int) -> Path:
        """Checkpoint after an update, counted from 1."""
        return self.path / f"checkpoint_step_{step}.pt"

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


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
