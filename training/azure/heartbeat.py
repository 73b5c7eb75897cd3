"""A sign of life while a job waits: one living line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from training.machine.units import as_duration

ERASE_LINE = "\r\x1b[2K"


class Heartbeat:
    """Says what is being waited for, and for how long.

    Args:
        seconds: between two lines where there is no terminal.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_terminal = sys.stderr.isatty()
        self._is_drawn = False
        self._last = time.monotonic()

    def beat(self, what: str, since: float) -> None:
        """`what` has lasted since the Unix time `since`."""
        told = f"{what}, {as_duration(max(0.0, time.time() - since))} so far"
        if self._is_terminal:
            sys.stderr.write(f"{ERASE_LINE}{told}")
            sys.stderr.flush()
            self._is_drawn = True
        elif time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            print(told, flush=True)

    def clear(self) -> None:
        """Make room for another line."""
        if self._is_drawn:
            sys.stderr.write(ERASE_LINE)
            sys.stderr.flush()
            self._is_drawn = False
