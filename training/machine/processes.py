"""Processes that this one did not start: which one a pid meant, whether it still runs, and how to end it. No torch.

A pid alone names nobody: once its process has ended, the system gives the number to another. With the time at which
the process started it is one process of this computer for good, and that pair is what is written into files. A signal
goes to a process that was held open by the system (`pidfd_open`) while the pair was compared, so it cannot reach a
stranger, in whatever moment the pid passes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_ROUNDS, _SECONDS_BETWEEN_ROUNDS = 50, 0.02
"""How often processes that were killed are looked for again: one of them may have started another meanwhile."""


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one computer, as it can be written into a file."""

    pid: int
    host: str
    started_at: float
    """Unix seconds at which the process started; where the system does not say, at which it wrote this down."""
    process: str | None
    """A text that no other process of the computer has or had, also after the clock was set; None: the system gives
    none."""

    @classmethod
    def of_self(cls) -> Self:
        """Return the identity of the process that calls."""
        pid = os.getpid()
        found = start_of(pid)
        return cls(pid, socket.gethostname(), time.time() if found is None else found[0], found and found[1])

    def is_alive(self) -> bool | None:
        """Return whether this process still runs.

        Returns:
            False also where the pid now belongs to another process; None: not known, because it runs on another
            computer, or because the system does not say when processes started.
        """
        if self.host != socket.gethostname() or self.process is None or not (_PROC / "self" / "stat").exists():
            return None
        found = start_of(self.pid)
        return found is not None and found[1] == self.process

    def was_given(self, name: str, value: str) -> bool:
        """Return whether it still runs, and its environment was given a variable with a value when it started."""
        return _has(_PROC / str(self.pid), f"{name}={value}".encode()) and self.is_alive() is True

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this process and to no other.

        Returns:
            Whether it was sent; False: the process has ended, or it cannot be known to be this one.

        Raises:
            PermissionError: it belongs to another user.
        """
        return _send_if(self.pid, number, lambda: self.is_alive() is True)


def start_of(pid: int) -> tuple[float, str] | None:
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


def pids_with(name: str, value: str) -> Iterator[int]:
    """Yield the processes of this user whose environment was given a variable with a value when they started.

    Children inherit it, whichever session they make for themselves and whoever becomes their parent; so it finds all
    that belongs to one start. Nothing is found where the system does not show environments (not Linux).
    """
    wanted = f"{name}={value}".encode()
    for folder in _PROC.glob("[0-9]*"):
        if _has(folder, wanted):
            yield int(folder.name)


def kill_all_with(name: str, value: str) -> bool:
    """Kill every process whose environment was given a variable with a value, and those that they start meanwhile.

    Returns:
        Whether none is left; one that waits for a disk in the kernel ends later.
    """
    wanted = f"{name}={value}".encode()
    for _ in range(_ROUNDS):
        found = [pid for pid in pids_with(name, value) if pid != os.getpid()]
        if not found:
            return True
        for pid in found:
            with contextlib.suppress(PermissionError):  # a program that has become another user's
                _send_if(pid, signal.SIGKILL, lambda pid=pid: _has(_PROC / str(pid), wanted))  # type: ignore[misc]
        time.sleep(_SECONDS_BETWEEN_ROUNDS)
    return False


def _has(folder: Path, wanted: bytes) -> bool:
    try:
        return wanted in (folder / "environ").read_bytes().split(b"\0")  # a zombie's is empty
    except OSError:  # another user's, or it has ended
        return False


def _send_if(pid: int, number: signal.Signals, is_meant: Callable[[], bool]) -> bool:
    """Send a signal to the process that has a pid, if that is the one that is meant."""
    if not hasattr(os, "pidfd_open"):
        return _send_by_pid(pid, number, is_meant)
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        return _send_by_pid(pid, number, is_meant)  # a kernel from before 5.3
    try:
        if not is_meant():
            return False
        signal.pidfd_send_signal(held, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(held)
    return True


def _send_by_pid(pid: int, number: signal.Signals, is_meant: Callable[[], bool]) -> bool:
    if not is_meant():
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
