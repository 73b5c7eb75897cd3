"""A server on a loopback port in this process: the real application behind the real uvicorn, in a thread."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from tools.serve import listen, make_server
from tools.server.gate.state import Limits, ServerState, make_state, open_root, read_or_make_token


@dataclass(frozen=True)
class Answer:
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    """Names in small letters."""
    body: bytes

    @property
    def json(self) -> Any:
        """The document in the body."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The text in the body."""
        return self.body.decode()


class RunningServer:
    """The address of a server, and requests to it."""

    def __init__(self, state: ServerState) -> None:
        self.state = state

    @property
    def port(self) -> int:
        """Port that it listens at."""
        return self.state.port

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = "",
        timeout: float = 300.0,
    ) -> Answer:
        """Send one request and return the answer.

        Args:
            method: method of HTTP.
            path: path with the query.
            document: sent as JSON.
            body: sent as it is.
            headers: further headers; they replace those that are added.
            token: the secret; empty: the right one; None: none.
            timeout: seconds to wait at most.
        """
        sent: dict[str, str] = {}
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.state.token}"
        if document is not None:
            body = json.dumps(document).encode()
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, sent | dict(headers or {}))
            found = connection.getresponse()
            names = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, names, found.read())

    def get(self, path: str, **further: Any) -> Answer:
        """Send GET."""
        return self.ask("GET", path, **further)

    def post(self, path: str, document: Any = None, **further: Any) -> Answer:
        """Send POST."""
        return self.ask("POST", path, document, **further)


@contextlib.contextmanager
def serving(
    root: Path, *, data: tuple[Path, ...] = (), limits: Limits | None = None, slots: int = 1
) -> Iterator[RunningServer]:
    """Serve a root until the block ends.

    Args:
        root: directory of runs.
        data: directories of data sets.
        limits: bounds; None: the usual ones.
        slots: jobs at a time.
    """
    whole = open_root(root)
    with listen("127.0.0.1", 0) as listener:
        state = make_state(
            whole,
            token=read_or_make_token(whole / ".server"),
            data_directories=tuple(directory.resolve() for directory in data),
            host="127.0.0.1",
            port=listener.getsockname()[1],
            slots=slots,
            limits=limits or Limits(),
        )
        server = make_server(state)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        _wait_until_started(server, thread)
        try:
            yield RunningServer(state)
        finally:
            state.stopping.set()
            server.should_exit = True
            thread.join(30)
            state.close()
            assert not thread.is_alive(), "the server did not end"


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
