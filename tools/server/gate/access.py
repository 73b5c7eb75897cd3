"""Access: who may ask for what, and how much, before any route sees a request. Pure ASGI, so that streams stay streams.

A browser anywhere can send requests to a server on this machine. So each request must name this server's host (a page
that points its own name at 127.0.0.1 is refused), bring the secret, for a change come from this server's own page
and be JSON, and stay within bounds. What passes is a whole, valid body of known size.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from tools.server.gate.problems import LOG, MEDIA_TYPE, Problem, fault_of_server
from tools.server.gate.state import ServerState
from training.language.messages import Message
from training.storage.json_files import parse_json

Scope = MutableMapping[str, Any]
SentMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[SentMessage]]
Send = Callable[[SentMessage], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names of this machine that no other machine can be called by."""
HEALTH, LOGIN = "/healthz", "/login"
"""Paths that need no secret; the second one checks it itself."""
SAFE = frozenset({"GET", "HEAD"})
"""Methods that change nothing."""
METHODS = SAFE | {"POST", "PUT", "DELETE"}
SECONDS_KEPT = 365 * 24 * 3600
"""Age at which the cookie ends."""
_CLIENTS = 1024
"""Clients whose rates are remembered."""
_READ_IN_VAIN = 8
"""How many times the largest body is read before the connection is cut: a client that still sends sees no answer."""
_HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    b"cache-control": b"no-store",
}
"""Headers of every answer that does not set them itself."""
_NOT_LOGGED_IN = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Not logged in</title>"
    "<p>Open the link that <code>tools/serve.py</code> prints in its terminal: it logs this browser in."
    "<p lang=zh>请打开 <code>tools/serve.py</code> 在终端里给出的链接：它会让这个浏览器登录。"
).encode()


class _StreamRefusedError(Exception):
    """A stream of events that would be one too many."""


class Rates:
    """Requests of each client, by a bucket that fills steadily (`burst` at most) and that each request takes one from.

    Args:
        per_second: what flows in.
        burst: size of the bucket.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, client: str, now: float) -> float:
        """Count a request; return 0, or in how many seconds it would be allowed.

        Args:
            client: address of the client.
            now: seconds on a clock that never goes back.
        """
        left, then = self._clients.pop(client, (float(self._burst), now))
        left = min(float(self._burst), left + (now - then) * self._per_second)
        allowed = left >= 1.0
        self._clients[client] = (left - 1.0 if allowed else left, now)
        if len(self._clients) > _CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) / self._per_second


class Access:
    """The gate in front of an app.

    Args:
        app: what is behind it.
        state: has the secret, the allowed hosts and the limits.
    """

    def __init__(self, app: App, state: ServerState) -> None:
        self._app, self._state = app, state
        self._rates = Rates(state.limits.requests_per_second, state.limits.burst)
        self._streams = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket: the server has none
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_begun = is_stream = False

        async def guarded_send(message: SentMessage) -> None:
            nonlocal is_begun, is_stream
            if message["type"] == "http.response.start":
                headers = [(name.lower(), value) for name, value in message.get("headers", [])]
                if dict(headers).get(b"content-type", b"").startswith(b"text/event-stream"):
                    if self._streams >= self._state.limits.streams:
                        raise _StreamRefusedError
                    is_stream = True
                    self._streams += 1
                is_begun = True
                names = {name for name, _ in headers}
                message["headers"] = [*headers, *((k, v) for k, v in _HEADERS.items() if k not in names)]
            await send(message)

        try:
            refused = await self._pass_on(scope, receive, guarded_send)
        except asyncio.CancelledError:
            if not self._state.stopping.is_set():
                raise
            return  # the server ends, and with it this stream
        except _StreamRefusedError:
            refused = Problem(
                429,
                "",
                Message(
                    "{count} streams of events are open, and there may be no more; close a page", count=self._streams
                ),
                headers={"retry-after": "10"},
            )
        except Exception:
            LOG.exception("an error of the server, for %s %r", scope["method"], scope["path"])
            if is_begun:
                raise
            refused = fault_of_server()
        finally:
            self._streams -= is_stream
        if refused is not None and not is_begun:
            await _send_problem(refused, scope, guarded_send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> Problem | None:
        """Pass a request on, or return what is against it."""
        headers = _Headers(scope)
        if (refused := self._check_head(scope, headers)) is not None:
            return refused
        if scope["path"] == LOGIN:
            return await self._log_in(scope, send)
        if scope["path"] != HEALTH and not self._has_secret(headers):
            if scope["method"] == "GET" and "text/html" in headers.one("accept"):
                await _send(send, 401, [(b"content-type", b"text/html; charset=utf-8")], _NOT_LOGGED_IN)
                return None
            return Problem(
                401,
                "",
                Message(
                    "this needs the server's token, as `Authorization: Bearer TOKEN` or by the cookie of its login "
                    "link; the server's terminal shows the link, and .server/token below its root holds the token"
                ),
                headers={"www-authenticate": "Bearer"},
            )
        if (refused := _check_origin(scope, headers)) is not None:
            return refused
        try:
            async with asyncio.timeout(self._state.limits.body_seconds):
                body = await self._body(headers, receive)
        except TimeoutError:
            seconds = self._state.limits.body_seconds
            return Problem(408, "", f"the body did not arrive within {seconds:g} s", headers={"connection": "close"})
        if body is None or isinstance(body, Problem):
            return body  # None: the client has left
        if (refused := _check_body(scope["method"], headers, body)) is not None:
            return refused
        await self._app(scope, _replayed(body, receive), send)
        return None

    def _check_head(self, scope: Scope, headers: _Headers) -> Problem | None:
        """Return what is against the request line and the headers."""
        limits = self._state.limits
        client = str((scope.get("client") or ("?",))[0])
        if (seconds := self._rates.seconds_to_wait(client, time.monotonic())) > 0.0:
            return Problem(
                429,
                "",
                Message("more than {count:g} requests a second; wait", count=limits.requests_per_second),
                headers={"retry-after": str(max(1, round(seconds)))},
            )
        if scope["http_version"] not in ("1.0", "1.1"):
            return Problem(505, "", f"HTTP {scope['http_version']} is not spoken here; use 1.1")
        if headers.size + len(scope["raw_path"]) > limits.head_bytes:
            return Problem(431, "", f"path and headers have more than {limits.head_bytes:,} bytes; shorten them")
        hosts = headers.all("host")
        host = _host_name(hosts[0]) if len(hosts) == 1 else None
        if host is None or host not in LOOPBACK | self._state.hosts:
            named = hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts"
            return Problem(
                403,
                "",
                f"the request is for {named!r}, which is no name of this server; open {self._state.url}, or start the "
                "server with --public-host NAME",
            )
        if scope["method"] not in METHODS:
            allowed = ", ".join(sorted(METHODS))
            return Problem(
                405, "", f"the method {scope['method']!r} is not used here; use {allowed}", headers={"allow": allowed}
            )
        path = scope["path"]
        if not path.startswith("/") or not path.isprintable():
            return Problem(400, "", f"{path!r} is no path; give one that begins with / and has no control characters")
        if len(scope["query_string"]) > limits.query_bytes:
            return Problem(414, "", f"the part behind '?' has more than {limits.query_bytes:,} bytes; shorten it")
        if b"\0" in unquote_to_bytes(scope["query_string"]):
            return Problem(400, "", "the part behind '?' has a null byte; take it out")
        if headers.all("transfer-encoding") and headers.all("content-length"):
            return Problem(
                400,
                "",
                "the request says its length twice, by Transfer-Encoding and by Content-Length; give one of them",
                headers={"connection": "close"},
            )
        return None

    def _has_secret(self, headers: _Headers) -> bool:
        kind, _, given = headers.one("authorization").partition(" ")
        if kind.lower() == "bearer" and _is_same(given.strip(), self._state.token):
            return True
        name, value = self._state.cookie
        found: SimpleCookie = SimpleCookie()
        try:
            found.load("; ".join(headers.all("cookie")))
        except CookieError:
            return False
        return name in found and _is_same(found[name].value, value)

    async def _log_in(self, scope: Scope, send: Send) -> Problem | None:
        """Set the cookie for whoever knows the token."""
        if scope["method"] != "GET":
            return Problem(405, "", f"{LOGIN!r} does not take {scope['method']}; use GET", headers={"allow": "GET"})
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        if len(given) != 1 or not _is_same(given[0], self._state.token):
            return Problem(401, "", Message("this is not the token of the server; its terminal shows the right link"))
        name, value = self._state.cookie
        cookie = f"{name}={value}; Max-Age={SECONDS_KEPT}; Path=/; HttpOnly; SameSite=Strict"
        await _send(send, 303, [(b"location", b"/"), (b"set-cookie", cookie.encode())], b"")
        return None

    async def _body(self, headers: _Headers, receive: Receive) -> bytes | Problem | None:
        """Return the whole body; None: the client has left before its end."""
        most = self._state.limits.body_bytes
        refused = Problem(413, "", f"the body has more than {most:,} bytes; send less", headers={"connection": "close"})
        if (declared := headers.one("content-length")).isdecimal() and int(declared) > _READ_IN_VAIN * most:
            return refused
        body, size = bytearray(), 0
        while size <= _READ_IN_VAIN * most:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            if size <= most:
                body += message.get("body", b"")
            if not message.get("more_body", False):
                return bytes(body) if size <= most else refused
        return refused


class _Headers:
    """Headers of a request."""

    def __init__(self, scope: Scope) -> None:
        self._items = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]

    @property
    def size(self) -> int:
        """Characters of all names and values."""
        return sum(len(name) + len(value) for name, value in self._items)

    def all(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self._items if key == name]

    def one(self, name: str) -> str:
        """Return a header that is given once; empty: it is missing, or given several times."""
        found = self.all(name)
        return found[0] if len(found) == 1 else ""


def _host_name(text: str) -> str | None:
    """Return the name or address in a Host header or an origin, in small letters; None: it is none."""
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        return None
    is_plain = parts.netloc == text and not parts.username and "@" not in text and (port is None or port > 0)
    return parts.hostname if is_plain else None


def _is_same(given: str, secret: str) -> bool:
    """Compare in a time that does not depend on how much is right."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _check_origin(scope: Scope, headers: _Headers) -> Problem | None:
    """Return what is against a request that a browser sends for another page than this server's own.

    A site has no port to a browser: it sends the cookie along from any port of this host. So the whole origin counts.
    """
    site, is_safe = headers.one("sec-fetch-site"), scope["method"] in SAFE
    is_navigation = (
        is_safe and headers.one("sec-fetch-mode") == "navigate" and headers.one("sec-fetch-dest") == "document"
    )
    origins = headers.all("origin")
    own = headers.one("host").lower()
    is_foreign = any(origin.lower() not in (f"http://{own}", f"https://{own}") for origin in origins)
    if is_foreign or (site not in ("", "same-origin", "none") and not is_navigation):
        return Problem(403, "", "another web page sent this; only the server's own page may")
    return None


def _check_body(method: str, headers: _Headers, body: bytes) -> Problem | None:
    """Return what is against a body."""
    kind = headers.one("content-type").partition(";")[0].strip().lower()
    if method in SAFE:
        return Problem(400, "", f"{method} takes no body; send none") if body else None
    if kind != "application/json" and (body or kind or headers.all("content-type")):
        return Problem(
            415, "", f"the body is {kind or 'of no declared type'!r}; send JSON, with Content-Type: application/json"
        )
    if not body:
        return None
    try:
        document = parse_json(body)
    except ValueError as error:
        return Problem(400, "", f"the body cannot be read: {error}; send JSON")
    if _has_no_text(document):
        return Problem(400, "", "a text in the body has a null byte or half of a surrogate pair; take it out")
    return None


def _has_no_text(document: object) -> bool:
    """Return True if a text in a document is none that UTF-8, a file name or a database could hold."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
                return True
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
    return False


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which was read already, and then waits for the client to leave."""
    is_given = False

    async def again() -> SentMessage:
        nonlocal is_given
        if not is_given:
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


async def _send_problem(problem: Problem, scope: Scope, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    body = b"" if scope["method"] == "HEAD" else problem.body()
    await _send(send, problem.status, [(b"content-type", MEDIA_TYPE.encode()), *headers], body)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
