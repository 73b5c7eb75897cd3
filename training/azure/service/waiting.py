"""Waiting for Azure: a sign of life while a job waits, and services that do not answer for a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from training.errors import printable
from training.machine.units import as_duration

ERASE_LINE = "\r\x1b[2K"


class Heartbeat:
    """A line that says what is being waited for, and for how long.

    On a terminal it is one line that is drawn again and again, elsewhere a line now and then.

    Args:
        seconds: between two lines where there is no terminal.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_terminal = sys.stderr.isatty()
        self._is_drawn = False
        self._last = time.monotonic()

    def beat(self, what: str, since: float) -> None:
        """Say that `what` has lasted since the Unix time `since`."""
        line = f"{what}, {as_duration(max(0.0, time.time() - since))} so far"
        if self._is_terminal:
            sys.stderr.write(f"{ERASE_LINE}{line}")
            sys.stderr.flush()
            self._is_drawn = True
        elif time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            print(printable(line), flush=True)

    def clear(self) -> None:
        """Erase the line, so that another can be printed."""
        if self._is_drawn:
            sys.stderr.write(ERASE_LINE)
            sys.stderr.flush()
            self._is_drawn = False


SLOWEST_SECONDS = 60.0
"""Between two attempts, however long it lasts."""


class Outage:
    """Attempts at something that may fail for a while, with one line at the beginning and one at the end.

    Args:
        what: the service, storage or disk, as the lines name it.
        say: prints a line.
        seconds: between two attempts at first; doubled after each failure, up to a minute.
        fails: verb of the first line.
        recovers: verb of the last line.
    """

    def __init__(
        self,
        what: str,
        say: Callable[[str], None],
        seconds: float,
        fails: str = "does not answer",
        recovers: str = "answers again",
    ) -> None:
        self._what, self._say, self._seconds = what, say, seconds
        self._fails, self._recovers = fails, recovers
        self._began: float | None = None
        self._pause = seconds
        self._next_attempt = 0.0

    @property
    def is_over(self) -> bool:
        """True if the last attempt succeeded, or none was made."""
        return self._began is None

    def is_due(self) -> bool:
        """Return True when it is time for the next attempt."""
        return time.monotonic() >= self._next_attempt

    def hurry(self) -> None:
        """Make the next attempt at once."""
        self._next_attempt = 0.0

    def succeeded(self) -> None:
        """Note that an attempt succeeded; the next is due after the usual pause."""
        if self._began is not None:
            self._say(f"{self._what} {self._recovers} (after {as_duration(time.monotonic() - self._began)})")
        self._began, self._pause = None, self._seconds
        self._next_attempt = time.monotonic() + self._seconds

    def failed(self, why: str) -> None:
        """Note that an attempt failed, in a way that may pass."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
            self._say(f"{self._what} {self._fails}: {why}; waiting for it, the job goes on meanwhile")
        else:
            self._pause = min(2 * self._pause, SLOWEST_SECONDS)
        self._next_attempt = now + self._pause
