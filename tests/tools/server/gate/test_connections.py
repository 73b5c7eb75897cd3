"""Connections of clients that send nothing, half of something or something else than HTTP, or that do not read."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.running_server import RunningServer, serving
from tools.server.gate.state import Limits

LIMITS = Limits(connections=8, streams=1, head_seconds=0.3, body_seconds=0.3, send_seconds=0.3, head_bytes=4096)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serve an empty root with little patience."""
    with serving(tmp_path_factory.mktemp("runs"), limits=LIMITS) as running:
        yield running


@contextlib.contextmanager
def connected(server: RunningServer) -> Iterator[socket.socket]:
    """Open a connection for the block."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    """Return what the server sends until it closes the connection."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            found += piece
    return bytes(found)


def asked(server: RunningServer, sent: bytes) -> bytes:
    """Send bytes on a connection of their own and return all that comes back."""
    with connected(server) as connection:
        connection.sendall(sent)
        return read_to_end(connection)


def send_without_end(connection: socket.socket, sent: bytes) -> NoReturn:
    """Send again and again, and never read."""
    while True:
        connection.sendall(sent)


def head(server: RunningServer, *lines: str, method: str = "POST", path: str = "/nothing") -> bytes:
    """Return a request line and headers, with the host and the secret."""
    first = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}"]
    every = [*first, f"Authorization: Bearer {server.state.token}", *lines, "", ""]
    return "\r\n".join(every).encode()


def is_healthy(server: RunningServer, connection: socket.socket) -> bool:
    """Ask on an open connection, and read the whole answer, which may come in pieces."""
    connection.sendall(head(server, method="GET", path="/healthz"))
    found = b""
    while not found.endswith(b"}") and (piece := connection.recv(4096)):
        found += piece
    return found.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_who_sends_no_whole_head_is_cut_off(server: RunningServer, sent: bytes) -> None:
    assert asked(server, sent) == b""


def test_who_goes_silent_after_an_answer_is_cut_off(server: RunningServer) -> None:
    found = asked(server, head(server, method="GET", path="/healthz"))
    assert found.count(b"HTTP/1.1 ") == 1
    assert found.endswith(b'{"status":"ok"}')


def test_who_sends_half_a_body_is_answered_and_cut_off(server: RunningServer) -> None:
    found = asked(server, head(server, "Content-Type: application/json", "Content-Length: 100") + b'{"a": ')
    assert found.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in found


def test_a_body_that_is_cut_short_changes_nothing(server: RunningServer) -> None:
    with connected(server) as connection:
        connection.sendall(head(server, "Content-Type: application/json", "Content-Length: 100") + b"{")
        connection.shutdown(socket.SHUT_WR)
    assert server.get("/healthz").status == 200


def test_who_does_not_read_is_cut_off(server: RunningServer) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", server.port))
        request = head(server, method="GET", path="/openapi.json")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_without_end(connection, request * 100)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 64,
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n folded\r\nA\x00b: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0x5\r\n\r\nxxxxx",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(server: RunningServer, sent: bytes) -> None:
    found = asked(server, sent)
    assert found.startswith(b"HTTP/1.1 400 ")
    document = json.loads(found.partition(b"\r\n\r\n")[2])
    assert document["status"] == 400
    assert document["remedy"]


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 0"),
    ],
)
def test_two_lengths_are_refused(server: RunningServer, lines: tuple[str, str]) -> None:
    smuggled = head(server, method="DELETE", path="/nothing")
    found = asked(server, head(server, "Content-Type: application/json", *lines) + b"0\r\n\r\n" + smuggled)
    assert found.startswith(b"HTTP/1.1 400 ")
    assert found.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("target", ["http://evil.example/healthz", "*", "healthz", "//evil.example/../healthz"])
def test_a_target_that_is_no_path_is_refused(server: RunningServer, target: str) -> None:
    found = asked(server, head(server, "Connection: close", method="GET", path=target))
    assert found[9:12] in (b"400", b"404")


@pytest.mark.parametrize("lines", [["X: " + "x" * 5000], [f"X-{n}: {n}" for n in range(900)], ["X: " + "x" * 500_000]])
def test_a_large_head_is_refused(server: RunningServer, lines: list[str]) -> None:
    assert asked(server, head(server, *lines, method="GET", path="/healthz"))[9:12] in (b"431", b"400")
    assert asked(server, head(server, method="GET", path="/" + "x" * 5000))[9:12] == b"431"


def test_another_version_is_not_spoken(server: RunningServer) -> None:
    assert asked(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 505 ")
    sent = head(server, method="GET", path="/healthz").replace(b"HTTP/1.1", b"HTTP/9.9")
    assert asked(server, sent).startswith(b"HTTP/1.1 505 ")


def test_an_upgrade_is_not_made(server: RunningServer) -> None:
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    found = asked(server, head(server, *lines, method="GET", path="/healthz"))
    assert found.startswith(b"HTTP/1.1 200 ")


def test_one_stream_too_many_is_refused(server: RunningServer) -> None:
    with connected(server) as stream:
        stream.sendall(head(server, method="GET", path="/api/events"))
        assert stream.recv(4096).startswith(b"HTTP/1.1 200 ")
        refused = server.get("/api/events")
        assert (refused.status, refused.headers["retry-after"]) == (429, "10")


def test_a_server_ends_while_a_page_follows_it(tmp_path: Path) -> None:
    with serving(tmp_path) as other:
        stream = socket.create_connection(("127.0.0.1", other.port), timeout=30)
        stream.sendall(head(other, method="GET", path="/api/events"))
        assert stream.recv(4096).startswith(b"HTTP/1.1 200 ")
    with stream:
        read_to_end(stream)


def test_one_connection_too_many_is_refused_and_the_others_go_on(server: RunningServer) -> None:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in range(LIMITS.connections)]
        for connection in held:  # each has been accepted when it was answered
            assert is_healthy(server, connection)
        with connected(server) as one_more:
            assert read_to_end(one_more).startswith(b"HTTP/1.1 503 ")
        assert is_healthy(server, held[0])
