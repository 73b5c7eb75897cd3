"""The terminal that shows a run. A worker has none of its own: what it prints reaches the front door's. No torch."""

from __future__ import annotations

import os

_terminal: str | None = None


def stand_in_for(terminal: str | None) -> None:
    """Take another process's terminal for this one's.

    Args:
        terminal: path of its device, such as `/dev/pts/3`; None: there is none.
    """
    global _terminal
    _terminal = terminal


def terminal_size() -> os.terminal_size | None:
    """Return the present size of the front door's terminal; None: this process is no worker, or there is none."""
    if _terminal is None:
        return None
    try:
        terminal = os.open(_terminal, os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return os.terminal_size((80, 24))
    try:
        return os.get_terminal_size(terminal)
    except OSError:  # closed meanwhile
        return os.terminal_size((80, 24))
    finally:
        os.close(terminal)
