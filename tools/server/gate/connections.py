"""Connections of clients, each with deadlines: whoever sends nothing, or reads nothing, does not keep one for ever."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tools.server.gate.problems import MEDIA_TYPE, Problem
from tools.server.gate.state import Limits
from training.machine.stop_signals import asking_to_stop


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 on one connection, within limits.

    uvicorn itself waits without end for the first byte, for the end of the headers, and for a reader.
    """

    limits = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin, if there may be one more connection."""
        super().connection_made(transport)
        self._head_deadline: asyncio.TimerHandle | None = None
        self._read_deadline: asyncio.TimerHandle | None = None
        if len(self.connections) > self.limits.connections:
            self._refuse(Problem(503, "", "too many connections are open; close some", headers={"retry-after": "10"}))
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, with all deadlines."""
        self._cancel_deadlines()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle what has arrived. A whole head ends its deadline; a request after it begins another one."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._expect_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        if self._read_deadline is None:
            self._read_deadline = self.loop.call_later(self.limits.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the client reads."""
        super().resume_writing()
        if self._read_deadline is not None:
            self._read_deadline.cancel()
            self._read_deadline = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(Problem(400, "", "this is no HTTP request that can be read; send HTTP/1.1 with one Host"))

    def _expect_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
        self._head_deadline = self.loop.call_later(self.limits.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_deadline = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _cancel_deadlines(self) -> None:
        for deadline in (self._head_deadline, self._read_deadline):
            if deadline is not None:
                deadline.cancel()
        self._head_deadline = self._read_deadline = None

    def _refuse(self, problem: Problem) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is under way: it cannot be taken back
            self.transport.abort()
            return
        body = problem.body()
        headers = {
            "content-type": MEDIA_TYPE,
            "content-length": str(len(body)),
            "connection": "close",
            **problem.headers,
        }
        start = h11.Response(status_code=problem.status, headers=[*headers.items()])
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def protocol_within(limits: Limits) -> type[asyncio.Protocol]:
    """Return the protocol class for so many connections and so much patience."""
    own: dict[str, Any] = {"limits": limits}
    return type("BoundedProtocol", (BoundedProtocol,), own)


class EndingServer(uvicorn.Server):
    """A server that ends on SIGINT and SIGTERM, and lets its streams know before it waits for them.

    Args:
        config: of uvicorn.
        stopping: set at the signal.
        when_started: called when it answers.
    """

    def __init__(self, config: uvicorn.Config, stopping: threading.Event, when_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping, self._when_started = stopping, when_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer. From here on signals end the server in order."""
        if threading.current_thread() is threading.main_thread():
            for number in asking_to_stop():  # uvicorn knows two of them; a terminal that closes sends a third
                signal.signal(number, self.handle_exit)
        await super().startup(sockets)
        self._when_started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order; a second Ctrl-C does not wait for answers that are under way."""
        self._stopping.set()
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # uvicorn would raise them again at the end, and the process die by them
