"""What other programs take of this machine's processors while something is timed. No torch."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")


class OtherLoad:
    """Counts from its making on, by the kernel's own books.

    Busy is what is not idle and not waiting for a disk; of a virtual machine also what its host gave to others
    ("steal"). Own is this process, and its children once they have ended and were waited for.
    """

    def __init__(self) -> None:
        self._before = _now()

    def share(self) -> float | None:
        """Of all processors' time since the start, 0 to 1; None where the machine does not tell (not Linux)."""
        now = _now()
        if now is None or self._before is None:
            return None
        seconds, busy, own = (new - old for new, old in zip(now, self._before, strict=True))
        # The kernel counts in hundredths of a second, each book on its own.
        return min(1.0, max(0.0, busy - own) / max(1e-9, seconds * (os.cpu_count() or 1)))


def _now() -> tuple[float, float, float] | None:
    """Seconds on the clock, seconds that all processors were busy, seconds that we were."""
    try:
        words = _STAT.read_text(encoding="ascii").split(maxsplit=9)
    except OSError:
        return None
    user, nice, system, _idle, _waiting, irq, soft, steal = map(int, words[1:9])
    busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), busy, sum(os.times()[:4])
