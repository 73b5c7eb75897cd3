"""Ctrl-C and SIGTERM: both unwind the stack, so that no temporary directory is left, or detach from a job."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from training.machine.stop_signals import asking_to_stop


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that unwinds the stack like Ctrl-C."""


def exit_code_of(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a shell for that signal: 143 for SIGTERM, 130 for Ctrl-C."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def name_of(stop: KeyboardInterrupt) -> str:
    """Return the name that the user knows."""
    return "SIGTERM" if isinstance(stop, Terminated) else "Ctrl-C"


def raise_stop(number: int, frame: FrameType | None) -> NoReturn:
    """Raise the exception of a signal; a signal handler.

    Raises:
        KeyboardInterrupt: `Terminated` for SIGTERM.
    """
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` within the block, in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, raise_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Detached(BaseException):
    """Ctrl-C or SIGTERM of a user who leaves while the job goes on. Not an `Exception`, so that nothing catches it by
    mistake."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@contextlib.contextmanager
def signals_detach() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise `Detached` within the block, in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _detach) for number in asking_to_stop()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _detach(number: int, frame: FrameType | None) -> NoReturn:
    raise Detached(signal.Signals(number))
