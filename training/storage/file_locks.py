"""The operating system's locks on files: they end with the process that holds them, however that dies. No torch."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""Errors of a lock on a disk that has no file locks, such as some network disks."""
LOCKED_BYTE = 4096
"""The byte that is locked on Windows, where nobody can read one that is: a lock file's text ends before it."""
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
"""Errors of a lock that another process holds; any other says that the file cannot be locked at all."""
_SECONDS_BETWEEN = 0.05
"""How often a lock that is held is tried again. A call that waits in the system would hear no Ctrl-C on Windows."""


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the operating system's lock; return False where another process holds it.

    Args:
        descriptor: an open lock file.
        shared: several processes may hold it at a time (not on Windows).

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise
        return False
    return True


def is_in_place(path: Path, descriptor: int) -> bool:
    """Return whether a path still leads to an open file: a lock on a file that was deleted keeps nobody out."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process at a time into a block; the others wait.

    Args:
        path: the lock file in an existing directory. It is made if it is not there, and stays.

    Raises:
        OSError: the file cannot be made, or its disk has no locks (`NO_LOCKS`).
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            while not try_lock(descriptor):
                time.sleep(_SECONDS_BETWEEN)
            if is_in_place(path, descriptor):
                yield
                return
        finally:
            os.close(descriptor)
