"""The directory of a run: who may write there, and what is called what."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from training.checkpoints.manifest import BEST_NAME, checkpoint_directories, is_checkpoint_name
from training.checkpoints.run_lock import LOCK_NAME, RunLock, is_locked, owner_of
from training.errors import UserError
from training.record.log import LOG_NAME, REPORT_NAME
from training.storage.atomic import delete, name_of_aside, put_back
from training.storage.file_locks import NO_LOCKS
from training.storage.run_files import RunFile, run_files

CONFIG_NAME = "config.yaml"
FINAL_NAME = "final_model.pt"
MODEL_DIRECTORY = "final_model"
RECORD_NAMES = (LOG_NAME, REPORT_NAME, CONFIG_NAME)
"""Files that make a copy of a checkpoint a run."""
RUN_FILES = (
    RunFile(FINAL_NAME, shows_run=True, artefact="model"),
    RunFile(MODEL_DIRECTORY, shows_run=True, artefact="model"),
    RunFile(CONFIG_NAME, is_taken_over=True),
)


def checkpoint_name(step: int, epoch: int | None = None) -> str:
    """Return the name of a checkpoint after update `step`; `epoch` is the one that ends there, from 1."""
    return f"checkpoint_step_{step}" if epoch is None else f"checkpoint_epoch_{epoch}"


class RunDirectory:
    """Claims a directory for one run and one process.

    Args:
        path: created if it is missing.
        checkpoint_name: (step, epoch that ends there or None) -> name of a checkpoint.
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
        self._lock: RunLock | None = None
        if claim:
            self._claim(resume, overwrite)

    def _claim(self, resume: bool, overwrite: bool) -> None:
        path = self.path
        self.refuse_taken(resume=resume, overwrite=overwrite)  # a directory that is refused is not touched
        # Made for this run: removed again if nothing comes of it.
        self._made = [p for p in (path, *path.parents) if not p.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--run-dir {path}: it cannot be written to ({error.strerror}); choose another") from error
        self._lock = _locked(path)
        try:
            # Again: a run may have begun and ended there before the lock was taken.
            self.refuse_taken(resume=resume, overwrite=overwrite)
            for aside in asides_of_kills(path):
                put_back(aside)
            for leftover in leftovers_of_kills(path):
                delete(leftover)
            if overwrite and self.holds_run():
                self.delete_run()
        except BaseException:
            self.release()
            raise

    def refuse_taken(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Refuse a directory that a run cannot have. Nothing is written.

        Args:
            resume: the run in it goes on.
            overwrite: the run in it is deleted.

        Raises:
            UserError: it is a file or the root of a file system, holds another run or the user's own files, or another
                process is training in it.
        """
        path = self.path
        if path.exists() and not path.is_dir():
            raise UserError(f"--run-dir {path}: this is a file, not a directory; choose another")
        if len(path.resolve().parts) == 1:
            raise UserError(f"--run-dir {path}: this is the root of the file system; choose another")
        for file in run_files():
            for place in file.found_in(path) if file.is_taken_over else ():
                if place.is_symlink() and place.is_dir() and not overwrite:
                    raise UserError(
                        f"--run-dir {path}: {place.name} in it is a link to {place.resolve()}, where the run would "
                        "delete files; remove the link or choose another --run-dir"
                    )
        if holds_run := self.holds_run():
            if not (resume or overwrite):
                raise UserError(
                    f"--run-dir {path}: it holds a run already ({', '.join(holds_run)}); go on with it (--resume), "
                    "delete it (--overwrite) or choose another --run-dir"
                )
        else:
            for file in run_files():
                if file.is_taken_over and (found := file.found_in(path)):
                    raise UserError(
                        f"--run-dir {path}: it holds {found[0].name} and no run, so that is your own, and the run "
                        "would replace it; move it away or choose another --run-dir"
                    )
        if self._lock is None and is_locked(path):
            raise _taken_by_another(path)

    def holds_run(self) -> list[str]:
        """Return the names of the files that show that the directory holds a run; empty: it holds none."""
        found = [path.name for file in run_files() if file.shows_run for path in file.found_in(self.path)]
        return found + [p.name for p in checkpoint_directories(self.path)][:3]

    def delete_run(self) -> None:
        """Delete all that a run writes (see `training.storage.run_files`), and nothing else.

        The record goes last: after a deletion that broke off, the directory still holds a run, which can be deleted.
        """
        for path in checkpoint_directories(self.path):
            delete(path)
        for file in reversed(run_files()):
            for path in file.found_in(self.path):
                delete(path)

    def becomes_local(self) -> None:
        """Delete the marks of a run that is trained elsewhere: from now on the run is this machine's."""
        for file in run_files():
            if file.trained_elsewhere:
                for path in file.found_in(self.path):
                    delete(path)

    def checkpoint(self, step: int, epoch: int | None = None) -> Path:
        """Return the path of the checkpoint after update `step`; `epoch`, from 1, if it is one at that epoch's end."""
        return self.path / self._checkpoint_name(step, epoch)

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint with the lowest loss so far."""
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

    def refuse_if_gone(self) -> None:
        """Refuse to go on in a directory that is no longer the one that this process claimed.

        Raises:
            UserError: it was removed, emptied or renamed, or another process has claimed what stands in its place. A
                lock file that was deleted alone is no such sign.
        """
        if self._lock is None or self._lock.is_in_place:
            return
        if os.path.lexists(self.path / LOCK_NAME) or not (self.path / LOG_NAME).exists():
            raise UserError(
                f"{self.path}: the run directory was removed, emptied, renamed or replaced while the run was at work; "
                "the run ends here and writes nothing more: if it was renamed, give --resume its new name"
            )

    def release(self) -> None:
        """Let other processes in."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            for directory in self._made:  # innermost first; one that holds anything stays
                with contextlib.suppress(OSError):
                    directory.rmdir()


def _locked(path: Path) -> RunLock:
    """Lock a run directory for this process.

    Raises:
        UserError: another process has it, or it cannot be locked.
    """
    try:
        lock = RunLock.take(path)
    except OSError as error:
        if error.errno in NO_LOCKS:
            raise UserError(
                f"--run-dir {path}: its disk has no file locks ({error.strerror}), so two runs could write there at a "
                "time; choose a directory on another disk"
            ) from error
        raise UserError(f"--run-dir {path}: it cannot be written to ({error.strerror}); choose another") from error
    if lock is None:
        raise _taken_by_another(path)
    return lock


def _taken_by_another(path: Path) -> UserError:
    owner = owner_of(path)
    who = f" (pid {owner.pid}, since {owner.since()})" if owner is not None else ""
    return UserError(f"--run-dir {path}: another process{who} is training in it; wait for it or choose another")


def leftovers_of_kills(run_dir: Path) -> list[Path]:
    """Return what killed writes left half done in a run directory, in order of name; not the user's own `.*.tmp`."""
    return [path for path in sorted(run_dir.glob(".*.tmp")) if _is_of_run(path.name[1 : -len(".tmp")])]


def asides_of_kills(run_dir: Path) -> list[Path]:
    """Return directories of a run that a kill left moved aside, in order of name."""
    return [path for path in sorted(run_dir.glob(".*.old")) if _is_of_run(name_of_aside(path).name)]


def _is_of_run(name: str) -> bool:
    name = name.removesuffix(".old")  # as older versions moved a finished model aside: .final_model.old.tmp
    return is_checkpoint_name(name) or any(fnmatchcase(name, file.pattern) for file in run_files())


def run_directory_of(path: Path) -> Path:
    """Return the run directory that a checkpoint or a finished model belongs to.

    It is the directory in which it really lies. Only if that has no run's record, and a link to it lies in a directory
    that has one, it is that directory: a run whose checkpoints were moved to another disk.
    """
    seen, real = path.parent, path.resolve().parent
    moved = (seen / LOG_NAME).is_file() and not (real / LOG_NAME).is_file()
    return seen if moved or seen.resolve() == real else real
