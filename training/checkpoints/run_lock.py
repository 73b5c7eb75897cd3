"""The lock of a run directory: one process trains in it, and anybody can see which. No torch.

`.lock` holds plain data about its owner, `{"pid": 123, "host": "box", "started_at": 1764470000.0, "process": "…"}`. The
operating system's lock on the file, which ends with the process however that dies, decides who may train; what the file
says is for people and programs that want to ask the run to stop. A file without a living owner means nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from training.errors import UserError
from training.machine.processes import ProcessIdentity
from training.storage.file_locks import LOCKED_BYTE, is_in_place, try_lock

LOCK_NAME = ".lock"
_LONGEST = LOCKED_BYTE
"""Bytes of a lock file that are read."""
_ATTEMPTS, _SECONDS_BETWEEN = 5, 0.02
"""How often a lock that is held is tried again: `is_locked` of another process holds it for an instant."""


@dataclass(frozen=True)
class Owner:
    """The process that has claimed a run directory, as its lock file says."""

    identity: ProcessIdentity
    alive: bool | None
    """Whether the process still runs. False also where its pid now belongs to another process; None: not known, because
    it runs on another computer, or because the system does not say when processes started."""

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self.identity.pid

    @property
    def started_at(self) -> float:
        """Unix seconds at which the process started (where the system does not say: at which it claimed the
        directory)."""
        return self.identity.started_at

    def since(self) -> str:
        """Return the local time at which the process started: `12:03`, with the date if that is not today."""
        started = datetime.fromtimestamp(self.started_at)
        return f"{started:%H:%M}" if started.date() == datetime.now().date() else f"{started:%Y-%m-%d %H:%M}"


class RunLock:
    """The lock on a run directory, held until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    @property
    def is_in_place(self) -> bool:
        """Return whether the lock file still stands where it was taken."""
        return is_in_place(self._path, self._descriptor)

    @classmethod
    def take(cls, run_dir: Path) -> Self | None:
        """Lock a directory and write down who did it.

        Args:
            run_dir: an existing directory.

        Returns:
            The lock; None: another process holds it (`owner_of` says which).

        Raises:
            OSError: the lock file cannot be made, or the file system has no locks.
            UserError: something else bears the lock file's name; it is left untouched.
        """
        path = run_dir / LOCK_NAME
        attempts = _ATTEMPTS
        while True:
            descriptor = _open(path)
            try:
                if not try_lock(descriptor):
                    os.close(descriptor)
                    attempts -= 1
                    if attempts == 0:
                        return None
                    time.sleep(_SECONDS_BETWEEN)
                    continue
                if is_in_place(path, descriptor):
                    _write_owner(descriptor)
                    return cls(path, descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            # Between opening and locking, the process that held it deleted the file. A lock on it keeps nobody out.
            os.close(descriptor)

    def release(self) -> None:
        """Delete the lock file and let other processes in."""
        if os.name == "nt":  # an open file cannot be deleted there, and neither can one that another process has opened
            os.close(self._descriptor)
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            return
        # In this order: whoever opens the file before the lock ends finds, once it has the lock, that the file is gone.
        try:
            if is_in_place(self._path, self._descriptor):
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)


def owner_of(run_dir: Path) -> Owner | None:
    """Return the process that claimed a run directory last; None: nobody has, or the lock file does not say who.

    It takes no lock, so it disturbs no run that is about to start.

    Example:
        >>> owner = owner_of(Path("runs/default"))
        >>> if owner is not None:
        ...     owner.identity.send(signal.SIGTERM)  # the run saves a checkpoint and stops
    """
    try:
        descriptor = os.open(run_dir / LOCK_NAME, os.O_RDONLY | _no_link() | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        document = json.loads(os.read(descriptor, _LONGEST)) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except (OSError, ValueError):  # a lock of an older version is empty
        return None
    finally:
        os.close(descriptor)
    if not isinstance(document, dict):
        return None
    pid, started_at = document.get("pid"), document.get("started_at")
    if type(pid) is not int or pid <= 0 or not isinstance(started_at, int | float):
        return None
    host, process = document.get("host"), document.get("process")
    identity = ProcessIdentity(
        pid, host if isinstance(host, str) else "", float(started_at), process if isinstance(process, str) else None
    )
    return Owner(identity, identity.is_alive())


def is_locked(run_dir: Path) -> bool:
    """Return whether a process is training in a directory.

    The check takes a shared lock for an instant and changes nothing. A lock held on another computer is seen only if
    the network file system shares locks.
    """
    try:
        mode = os.O_RDWR if os.name == "nt" else os.O_RDONLY
        descriptor = os.open(run_dir / LOCK_NAME, mode | _no_link() | getattr(os, "O_NONBLOCK", 0))
    except OSError:  # most often: no such file
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and not try_lock(descriptor, shared=True)
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open the lock file for reading and writing without changing it; make it if it is not there.

    Raises:
        OSError: the directory cannot be written to.
        UserError: it is a link, another name of some file, or no file at all: what is written there would change
            something else.
    """
    refusal = f"{path} is not a run's lock file but {{}}; delete it, or choose another --run-dir"
    if path.is_symlink():  # O_NOFOLLOW says the same where the system has it, also of a link made a moment later
        raise UserError(refusal.format("a link"))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _no_link() | getattr(os, "O_NONBLOCK", 0), 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(refusal.format("a link")) from error
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise UserError(refusal.format("something else")) from error
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise UserError(refusal.format("another name of a file" if found.st_nlink > 1 else "something else"))
    return descriptor


def _no_link() -> int:
    return getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def _write_owner(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f"{json.dumps(asdict(ProcessIdentity.of_self()))}\n".encode())
