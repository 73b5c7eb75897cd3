"""An app served by a real uvicorn on a loopback port, in a thread, and its events as a client reads them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import uvicorn


@contextlib.contextmanager
def served(app: Any, stopping: threading.Event) -> Iterator[str]:
    """Serve an app while the block runs; `stopping` is set before it ends. Yield the server's address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the server does not end"


class SentEvent(NamedTuple):
    """A server-sent event as a client sees it."""

    name: str
    data: Any
    identity: str | None


def sent_events(response: httpx.Response) -> Iterator[SentEvent | None]:
    """Yield the events of an open answer as they come; None: a comment, such as a heartbeat."""
    name, identity = "message", None
    data: list[str] = []
    for line in response.iter_lines():
        field, _, value = line.partition(": ")
        if line == "":
            if data:
                yield SentEvent(name, json.loads("\n".join(data)), identity)
            name, data, identity = "message", [], None
        elif line.startswith(":"):
            yield None
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            identity = value
