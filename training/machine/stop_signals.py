"""SIGTERM, SIGHUP and Ctrl-C ask for an orderly stop; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

EXIT_CODES_OF_A_STOP = tuple(
    128 + getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Exit codes of a program that was asked to stop."""


def asking_to_stop() -> tuple[signal.Signals, ...]:
    """Return the signals by which a user, a system or a closing terminal asks a program to stop.

    `nohup` starts a program with SIGHUP ignored: then it stays ignored.
    """
    hangup: Any = getattr(signal, "SIGHUP", None)  # not on Windows
    listens = hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *((hangup,) if listens else ()))


class StopSignals:
    """While it is entered, the first SIGINT, SIGTERM or SIGHUP is only noted in `received`.

    A second Ctrl-C raises KeyboardInterrupt. Where it falls into a library's callback, the library may make an error of
    its own of it; what leaves the block is the KeyboardInterrupt all the same.

    Signals can be caught in the main thread alone; elsewhere (a notebook's worker) nothing is caught.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._is_at_once = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in asking_to_stop():
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._is_at_once:
            _raise_again(error)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            self._is_at_once = True
            raise KeyboardInterrupt
        self.received = signal.Signals(number)


class KnownInterrupts:
    """While it is entered, a Ctrl-C raises KeyboardInterrupt, and nothing else, out of the block.

    Where it falls into a library's callback, the library may make an error of its own of it.
    """

    def __init__(self) -> None:
        self._is_noted = False
        self._before: Any = None

    def __enter__(self) -> KnownInterrupts:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._is_noted:
            _raise_again(error)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_noted = True
        raise KeyboardInterrupt


def _raise_again(error: BaseException | None) -> None:
    """Raise the interrupt that an error has taken the place of."""
    if isinstance(error, Exception):
        raise KeyboardInterrupt from error
