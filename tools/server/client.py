"""A client of the server: finds it by its root, asks, and follows the events of a run over restarts of the server."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from tools.server.gate.state import ADDRESS, DIRECTORY, TOKEN
from training.errors import UserError
from training.storage.json_files import read_as, read_bytes

SECONDS_TO_ANSWER = 60.0
SECONDS_OF_SILENCE = 60.0
"""Time without a byte of a stream, which has heartbeats, after which its server counts as gone."""
SECONDS_OF_REST = 1.0
"""Time without an event after which a run that has ended has shown all of them."""
SECONDS_BETWEEN_ATTEMPTS = 0.5
ENDED = frozenset({"finished", "stopped", "failed", "lost"})
"""States of a job that does nothing any more."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NoServerError(UserError):
    """The server does not answer."""


@dataclass(frozen=True)
class Address:
    """Address of a server, with its secret."""

    url: str
    token: str


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream."""

    name: str
    data: Mapping[str, Any]
    id: str | None
    """Place to go on from; None: it has none of its own."""


@dataclass(frozen=True)
class _Announcement:
    url: str


def address_of(root: Path) -> Address:
    """Return where the server of a root is, as it has written down itself.

    Raises:
        NoServerError: none runs there.
        UserError: what it has written down cannot be read.
    """
    directory = root / DIRECTORY
    try:
        announced = read_as(directory / ADDRESS, _Announcement)
        token = read_bytes(directory / TOKEN, 4096).decode("ascii", "replace").strip()
    except FileNotFoundError as error:
        raise NoServerError(
            f"--root {root}: no server runs there; start one (python tools/serve.py --root {root}), or give --url"
        ) from error
    except OSError as error:
        raise UserError(f"{error.filename or directory}: it cannot be read ({error.strerror}); give --token") from error
    return Address(announced.url, token)


class ServerClient:
    """Asks a server. A server that was started again, also at another port, is found again.

    Args:
        where: returns where it is; asked before each connection.
    """

    def __init__(self, where: Callable[[], Address]) -> None:
        self._where = where
        self._last: str | None = None  # place of the last event of the stream that is followed

    def ask(
        self, method: str, path: str, document: Any = None, *, query: Mapping[str, Any] | None = None, key: str = ""
    ) -> Any:
        """Send a request and return the document of its answer.

        Args:
            method: GET, POST or DELETE.
            path: below the server's address.
            document: plain data of the body; None: none.
            query: what stands behind the question mark.
            key: idempotency key.

        Raises:
            NoServerError: the server does not answer.
            UserError: it refuses; the line is its own.
        """
        address = self._where()
        headers = {"Authorization": f"Bearer {address.token}", **({"Idempotency-Key": key} if key else {})}
        try:
            with self._open(address) as client:
                answer = client.request(method, path, json=document, params=query, headers=headers)
        except httpx.HTTPError as error:
            raise _no_server(address, error) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise UserError(f"--url {address.url}: this is no address of a server ({error})") from error
        return _document(answer, address)

    def events(self, path: str, patience: float, notice: Callable[[str], None]) -> Iterator[ServerEvent]:
        """Yield the events of a stream, each once, as long as the caller wants them.

        A connection that ends is opened again, from the last event on.

        Args:
            path: of the stream, below the server's address.
            patience: seconds without a server after which it counts as gone.
            notice: called with a line when the server is gone, and with an empty one when it is back.

        Raises:
            NoServerError: the server was gone for longer than `patience`.
            UserError: it refuses.
        """
        gone_since: float | None = None
        self._last = None
        while True:
            try:
                for event in self._stream(path, SECONDS_OF_SILENCE):
                    if gone_since is not None:
                        gone_since = None
                        notice("")
                    yield event
            except NoServerError as error:
                now = time.monotonic()
                if gone_since is None:
                    gone_since = now
                    notice(str(error))
                if now - gone_since > patience:
                    raise
            time.sleep(SECONDS_BETWEEN_ATTEMPTS)

    def rest(self, path: str) -> Iterator[ServerEvent]:
        """Yield what stands behind the last event of `events`, until the stream is silent for a moment."""
        with contextlib.suppress(NoServerError):
            yield from self._stream(path, SECONDS_OF_REST)

    def _stream(self, path: str, silence: float) -> Iterator[ServerEvent]:
        address = self._where()
        headers = {"Authorization": f"Bearer {address.token}", **({"Last-Event-ID": self._last} if self._last else {})}
        try:
            with self._open(address, silence) as client, client.stream("GET", path, headers=headers) as answer:
                if answer.status_code != 200:
                    answer.read()
                    _document(answer, address)
                for event in parse_stream(answer.iter_lines()):
                    self._last = event.id or self._last
                    yield event
        except httpx.HTTPError as error:
            raise _no_server(address, error) from error

    def _open(self, address: Address, silence: float = SECONDS_TO_ANSWER) -> httpx.Client:
        is_here = urlsplit(address.url).hostname in _LOOPBACK  # a proxy of the environment is for other machines
        timeout = httpx.Timeout(SECONDS_TO_ANSWER, read=silence)
        return httpx.Client(base_url=address.url, timeout=timeout, trust_env=not is_here, follow_redirects=False)


def parse_stream(lines: Iterator[str]) -> Iterator[ServerEvent]:
    """Yield the events in the lines of a stream of server-sent events; what is no JSON is passed over."""
    data: list[str] = []
    name, identity = "message", None
    for line in lines:
        if not line:
            if data:
                try:
                    document = json.loads("\n".join(data))
                except ValueError:
                    document = None
                if isinstance(document, dict):
                    yield ServerEvent(name, document, identity)
            name, data, identity = "message", [], None
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            identity = value


def find_job(client: ServerClient, wanted: str) -> str:
    """Return the id of the run that has a name or an id.

    Raises:
        UserError: none has it.
    """
    if len(wanted) == 12 and set(wanted) <= set("0123456789abcdef"):
        return wanted
    rows = client.ask("GET", "/api/training/jobs", query={"search": wanted, "archived": "all", "limit": 1000})["jobs"]
    for row in rows:
        if row["name"] == wanted:
            return str(row["id"])
    near = ", ".join(str(row["name"]) for row in rows[:5])
    raise UserError(f"no run is called {wanted!r}{f'; there are {near}' if near else ''} (list shows all)")


def job_path(job_id: str, *parts: str) -> str:
    """Return the path of a run's route."""
    return "/".join(("/api/training/jobs", quote(job_id, safe=""), *parts))


def _document(answer: httpx.Response, address: Address) -> Any:
    try:
        document = answer.json() if answer.content else None
    except ValueError as error:
        raise UserError(f"--url {address.url}: what answers there is another program ({answer.status_code})") from error
    if answer.status_code >= 400:
        detail = document.get("detail") if isinstance(document, dict) else None
        raise UserError(str(detail or f"the server refused the request ({answer.status_code})"))
    return document


def _no_server(address: Address, error: httpx.HTTPError) -> NoServerError:
    reason = str(error) or type(error).__name__
    return NoServerError(f"{address.url}: the server does not answer ({reason}); is it still running?")
