"""A limit for what a chat template may take: it is a program from somewhere, and may never end. No torch."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator


class EndlessError(Exception):
    """A block of code took longer than it may."""

    def __str__(self) -> str:
        return "it did not end"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `EndlessError` within a block of Python code that takes longer.

    A single call of C code is not interrupted: the error comes when it ends. It works in every thread, and where the
    system has no alarm signal.
    """
    thread, ended, lock = threading.get_ident(), threading.Event(), threading.Lock()

    def watch() -> None:
        if ended.wait(seconds):
            return
        with lock:  # the block may end at this moment
            if not ended.is_set():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(EndlessError))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with lock:
            ended.set()
        watcher.join()
