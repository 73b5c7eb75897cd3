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
import socket
import stat
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from training.errors import UserError
from training.storage.file_locks import LOCKED_BYTE, is_in_place, try_lock

LOCK_NAME = ".lock"
_PROC = Path("/proc")
_LONGEST = LOCKED_BYTE
"""Bytes of a lock file that are read."""
_ATTEMPTS, _SECONDS_BETWEEN = 5, 0.02
"""How often a lock that is held is tried again: `is_locked` of another process holds it for an instant."""


@dataclass(frozen=True)
class Owner:
    """The process that has claimed a run directory, as its lock file says."""

    pid: int
    started_at: float
    """Unix seconds at which the process started (where the system does not say: at which it claimed the directory)."""
    alive: bool | None
    """Whether the process still runs. False also where its pid now belongs to another process; None: not known, because
    it runs on another computer, or because the system does not say when processes started."""

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
        >>> if owner is not None and owner.alive:
        ...     os.kill(owner.pid, signal.SIGTERM)  # the run saves a checkpoint and stops
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
    here = document.get("host") == socket.gethostname()
    return Owner(pid, float(started_at), _is_alive(pid, document.get("process")) if here else None)


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
    started = _start_of(os.getpid())
    document = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started_at": time.time() if started is None else started[0],
        "process": None if started is None else started[1],
    }
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f"{json.dumps(document)}\n".encode())


def _is_alive(pid: int, process: object) -> bool | None:
    """Say whether the process with this pid is still the one that wrote the lock file; None: not known."""
    if not isinstance(process, str) or not (_PROC / "self" / "stat").exists():
        return None
    started = _start_of(pid)
    return started is not None and started[1] == process


def _start_of(pid: int) -> tuple[float, str] | None:
    """Return when a process started; None: there is none with this pid, or the system does not say (not Linux).

    Returns:
        Unix seconds, and a text that no other process of this computer has or had, also after the clock was set.
    """
    try:
        # The name in brackets may hold spaces and brackets of its own.
        words = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        up = float((_PROC / "uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    if words[0] in ("Z", "X"):  # it has ended, and nobody has asked yet how
        return None
    ticks = int(words[19])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK"), f"{boot}/{pid}/{ticks}"
