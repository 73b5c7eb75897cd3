"""A signal that any thread gives and coroutines wait for, as many as there are, in any event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class ChangeSignal:
    """Counts changes, and wakes whoever waits for the next one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def count(self) -> int:
        """Changes so far."""
        return self._count

    def notify(self) -> None:
        """Count a change, from any thread."""
        with self._lock:
            self._count += 1
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            with contextlib.suppress(RuntimeError):  # its loop has ended meanwhile
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def wait(self, seen: int, seconds: float) -> int:
        """Wait until there are other changes than those that were seen, or until the time is over.

        Args:
            seen: `count` before the caller looked at what may change.
            seconds: longest wait.

        Returns:
            The count now.
        """
        with self._lock:
            if self._count != seen:
                return self._count
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
        try:
            async with asyncio.timeout(seconds):
                await future
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._waiting.discard(future)
        return self._count


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
