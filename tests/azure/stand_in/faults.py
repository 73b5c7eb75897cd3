"""What goes wrong next: faults that a test switches on, which count and end by themselves."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from tests.azure.stand_in.exchange import Reply, Request


class Cut(Enum):
    """Ways of a connection to end without an answer."""

    IN_THE_MIDDLE = "after half of the request's body"
    WITHOUT_ANSWER = "after the whole request, which is not carried out"
    SILENCE = "never: no answer comes, until `reset`"
    AFTER_THE_WORK = "after the whole request, which is carried out"


@dataclass
class Fault:
    """The next `times` requests of a kind meet it."""

    method: str
    """A regular expression for the whole method, such as `PUT|POST`."""
    where: str
    """A regular expression, looked for in `host/path`."""
    reply: Reply | Cut
    times: int
    after: int = 0
    """So many matching requests go well first."""
    met: int = field(default=0, init=False)
    """How many have met it."""


class Faults:
    """Those of a service, in the order in which they were added; the first that fits is met."""

    def __init__(self) -> None:
        self._all: list[Fault] = []
        self._lock = threading.Lock()
        self.over = threading.Event()
        """Set while `clear` ends what is kept waiting."""

    def add(self, reply: Reply | Cut, where: str = ".", *, method: str = ".*", times: int = 1, after: int = 0) -> Fault:
        """Let the next requests whose `host/path` contains the expression `where` meet `reply`."""
        fault = Fault(method, where, reply, times, after)
        with self._lock:
            self._all.append(fault)
        return fault

    def meet(self, request: Request) -> Reply | Cut | None:
        """What this request meets instead of its answer; counts."""
        with self._lock:
            for fault in self._all:
                if not re.fullmatch(fault.method, request.method) or fault.met >= fault.times:
                    continue
                if not re.search(fault.where, request.host + request.path, re.IGNORECASE):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.met += 1
                return fault.reply
        return None

    def clear(self) -> None:
        """All is well again."""
        with self._lock:
            self._all.clear()
        self.over.set()
        self.over = threading.Event()

    # -- faults by name --------------------------------------------------------------------------------------------

    def unauthorized(self, where: str = "management.azure.com", times: int = 1) -> Fault:
        """401: the token is not taken."""
        return self.add(_error(401, "InvalidAuthenticationToken", "The access token is invalid."), where, times=times)

    def forbidden(self, where: str, times: int = 1, action: str = "read", method: str = ".*") -> Fault:
        """403: the caller lacks a role."""
        message = (
            "The client 'apt-tests' with object id '11111111-0000-0000-0000-000000000000' does not have authorization "
            f"to perform action 'Microsoft.MachineLearningServices/workspaces/{action}' over scope '/subscriptions/…' "
            "or the scope is invalid. If access was recently granted, please refresh your credentials."
        )
        return self.add(_error(403, "AuthorizationFailed", message), where, times=times, method=method)

    def conflict(self, where: str, times: int = 1, method: str = "PUT|POST") -> Fault:
        """409."""
        message = "The specified resource is being changed by another operation."
        return self.add(_error(409, "Conflict", message), where, times=times, method=method)

    def throttled(self, where: str, times: int = 1, retry_after: float = 0) -> Fault:
        """429 with `Retry-After` in seconds."""
        reply = _error(429, "TooManyRequests", "The request is being throttled.")
        reply.headers["Retry-After"] = f"{retry_after:g}"
        return self.add(reply, where, times=times)

    def server_error(self, where: str, times: int = 1, status: int = 500) -> Fault:
        """5xx."""
        return self.add(
            _error(status, "InternalServerError", "Received 500 from a service request"), where, times=times
        )

    def upload_forbidden(self, times: int = 1) -> Fault:
        """403 on every write of a blob."""
        reply = _storage_error(
            403,
            "AuthorizationPermissionMismatch",
            "This request is not authorized to perform this operation using this permission.",
        )
        return self.add(reply, r"blob\.core\.windows\.net", method="PUT", times=times)

    def upload_cut(self, times: int = 1, after: int = 0) -> Fault:
        """The connection breaks off in the middle of a blob that is written."""
        return self.add(Cut.IN_THE_MIDDLE, r"blob\.core\.windows\.net", method="PUT", times=times, after=after)

    def log_unreadable(self, times: int = 1) -> Fault:
        """Storage answers with its error document where a log is read."""
        reply = _storage_error(403, "AuthenticationFailed", "Server failed to authenticate the request.")
        return self.add(reply, r"blob\.core\.windows\.net/.*user_logs/[^/]+\.txt", method="GET", times=times)


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"error": {"code": code, "message": message, "details": [], "additionalInfo": []}})


def _storage_error(status: int, code: str, message: str) -> Reply:
    body = f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code}
    return Reply(status, headers=headers, body=body.encode())


__all__: Sequence[str] = ("Cut", "Fault", "Faults")
