"""Ctrl-C and SIGTERM while something is under way to Azure: both unwind, so that no temporary directory is left."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM, which by itself would end the process where it stands."""


def exit_code_of(stop: KeyboardInterrupt) -> int:
    """As a shell counts what a signal ended: 143 for SIGTERM, 130 for Ctrl-C."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def name_of(stop: KeyboardInterrupt) -> str:
    """How the user knows it."""
    return "SIGTERM" if isinstance(stop, Terminated) else "Ctrl-C"


def raise_stop(number: int, frame: FrameType | None) -> NoReturn:
    """A signal's handler.

    Raises:
        KeyboardInterrupt: `Terminated` for SIGTERM.
    """
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within it SIGTERM raises `Terminated`. In the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, raise_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
