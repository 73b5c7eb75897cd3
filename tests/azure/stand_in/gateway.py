"""The proxy: one loopback port that ends TLS for Azure's hosts and hands each request on."""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.azure.stand_in.certificates import NAMES
from tests.azure.stand_in.exchange import Reply, Request
from tests.azure.stand_in.faults import Cut, Faults

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection"}


class Gateway:
    """`with Gateway(…) as gateway:` … `gateway.url` is for HTTPS_PROXY.

    `service` answers what Azure's control plane is asked; blobs go unchanged to Azurite at `blob_port`.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        service: Callable[[Request], Reply],
        faults: Faults,
        blob_port: int,
        blob_tls: ssl.SSLContext,
    ) -> None:
        self.requests: list[Request] = []
        """All that came since the last `clear`, without the bodies of blobs; refused hosts as CONNECT."""
        self.service, self.faults = service, faults
        self._tls = tls
        self._blob_port, self._blob_tls = blob_port, blob_tls
        handler = type("Handler", (_Handler,), {"gateway": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Gateway:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def encrypted(self, connection: socket.socket) -> ssl.SSLSocket:
        """The server's side of a TLS connection."""
        return self._tls.wrap_socket(connection, server_side=True)

    def way_to_blobs(self) -> http.client.HTTPSConnection:
        """A new connection to Azurite."""
        return http.client.HTTPSConnection("127.0.0.1", self._blob_port, context=self._blob_tls, timeout=60)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """A client that leaves is no fault."""


class _Handler(BaseHTTPRequestHandler):
    """One client's connection: CONNECT, then requests to one host."""

    protocol_version = "HTTP/1.1"
    gateway: Gateway
    _host = ""
    _blobs: http.client.HTTPSConnection | None = None

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def finish(self) -> None:
        if self._blobs is not None:
            self._blobs.close()
        super().finish()
        self.connection.close()

    def do_CONNECT(self) -> None:
        host = self.path.rsplit(":", 1)[0].lower()
        if not _is_played(host):
            self.gateway.requests.append(Request("CONNECT", host, "", {}, {}, b"", ""))
            self.send_error(502, f"{host} is not played here")
            return
        self._host = host
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        self.connection = self.gateway.encrypted(self.connection)
        self.setup_streams()
        self.close_connection = False

    def setup_streams(self) -> None:
        """Read and write through the encrypted connection from here on."""
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")

    def _handle(self) -> None:
        if not self._host:
            return self.send_error(502, "only CONNECT: Azure is never asked in the clear")
        size = int(self.headers.get("Content-Length", 0))
        split = urlsplit(self.path)
        request = Request(
            self.command,
            self._host,
            unquote(split.path),
            dict(parse_qsl(split.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            b"",
            self.path,
        )
        self.gateway.requests.append(request)
        fault = self.gateway.faults.meet(request)
        if fault is Cut.IN_THE_MIDDLE:
            self.rfile.read(size // 2)
            return self._break_off()
        body = self._chunks() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.rfile.read(size)
        is_blob = self._host.endswith(".blob.core.windows.net")
        if not is_blob:
            request.body = body
        if isinstance(fault, Reply):
            return self._send(fault, request)
        if fault in (Cut.WITHOUT_ANSWER, Cut.SILENCE):
            if fault is Cut.SILENCE:
                self.gateway.faults.over.wait(300)
            return self._break_off()
        reply = self._forward(request, body) if is_blob else self.gateway.service(request)
        return self._break_off() if fault is Cut.AFTER_THE_WORK else self._send(reply, request)

    def __getattr__(self, name: str) -> Any:
        """`do_GET` and all the other methods of HTTP."""
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(parts)

    def _forward(self, request: Request, body: bytes) -> Reply:
        """The same request to Azurite, and its answer, both unchanged."""
        if self._blobs is None:
            self._blobs = self.gateway.way_to_blobs()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Content-Length"] = str(len(body))
        self._blobs.request(request.method, request.target, body, headers)
        answer = self._blobs.getresponse()
        content = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP}
        if request.method == "HEAD":
            kept["Content-Length"] = answer.getheader("Content-Length", "0")
        return Reply(answer.status, headers=kept, body=content)

    def _send(self, reply: Reply, request: Request) -> None:
        request.status = reply.status
        content = reply.content()
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def _break_off(self) -> None:
        """End the connection as a cable does that is pulled out: with a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def _is_played(host: str) -> bool:
    return any(host == name or (name.startswith("*") and host.endswith(name[1:])) for name in NAMES)
