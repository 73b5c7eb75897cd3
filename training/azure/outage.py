"""A service that does not answer for a while: waited for, with one line at its beginning and one at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from training.azure.refusals import ServiceError
from training.machine.units import as_duration

SLOWEST_SECONDS = 60.0
"""Between two attempts, however long it lasts."""


def outage_of(error: BaseException) -> str | None:
    """What is out of order, in a few words, where waiting may help; None: the error is an answer."""
    from azure.core.exceptions import (
        ClientAuthenticationError,
        DecodeError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    if isinstance(error, ServiceError):  # a line that stands for another exception
        return outage_of(error.__cause__) if error.__cause__ is not None else None
    if isinstance(error, ClientAuthenticationError):
        return "the login is no longer accepted; run `az login` in another terminal"
    if isinstance(error, DecodeError):
        return "the answer is not Azure's"
    if isinstance(error, HttpResponseError):
        status = error.status_code
        if status is None or status == 408 or status >= 500:
            return f"it has a fault of its own ({status})" if status else "its answer broke off"
        return {401: "the login has expired", 429: "it has had too many requests (429)"}.get(status)
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return "it cannot be reached"
    return None


class Outage:
    """Attempts at one thing that may fail for a while.

    Args:
        what: does not answer.
        say: prints a line.
        seconds: between two attempts at first; doubled after each failure, up to a minute.
        fails: what it does then.
        recovers: what it does afterwards.
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
        """Whether the last attempt succeeded, or none was made."""
        return self._began is None

    def is_due(self) -> bool:
        """Whether it is time for the next attempt."""
        return time.monotonic() >= self._next_attempt

    def hurry(self) -> None:
        """Make the next attempt at once."""
        self._next_attempt = 0.0

    def succeeded(self) -> None:
        """An attempt came through; the next is due after the usual pause."""
        if self._began is not None:
            self._say(f"{self._what} {self._recovers} (after {as_duration(time.monotonic() - self._began)})")
        self._began, self._pause = None, self._seconds
        self._next_attempt = time.monotonic() + self._seconds

    def failed(self, why: str) -> None:
        """An attempt failed, in a way that may pass."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
            self._say(f"{self._what} {self._fails}: {why}; waiting for it, the job goes on meanwhile")
        else:
            self._pause = min(2 * self._pause, SLOWEST_SECONDS)
        self._next_attempt = now + self._pause
