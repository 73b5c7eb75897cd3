"""The state that all routes of the server share, and the server's directory `.server` below the root of runs.

The server owns nothing that a run needs. `.server` holds its token, the index, the jobs' directories and the configs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import UserError
from training.storage.atomic import write_atomically
from training.storage.file_locks import try_lock

if TYPE_CHECKING:
    from tools.server.reading.run_index import RunIndex
    from training.experiments.jobs.job_queue import JobQueue
    from training.experiments.store.index import ExperimentStore

DIRECTORY = ".server"
TOKEN, LOCK, ADDRESS = "token", "lock", "server.json"
"""Files of the directory."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_LONGEST = 4096
"""Bytes that are read of a lock or a token."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what clients may ask for, so that none of them stops the others."""

    body_bytes: int = 2**20
    """Largest body of a request."""
    query_bytes: int = 8192
    """Largest part of an address behind the question mark."""
    head_bytes: int = 32 * 1024
    """Largest request line with its headers."""
    requests_per_second: float = 100.0
    """Requests that a client may make in the long run."""
    burst: int = 500
    """Requests that a client may make at once, after a pause."""
    connections: int = 256
    """Connections of all clients together."""
    streams: int = 128
    """Streams of events of all clients together."""
    head_seconds: float = 10.0
    """Time for the request line and the headers, from the connection or the answer before on."""
    body_seconds: float = 30.0
    """Time for the body."""
    send_seconds: float = 30.0
    """Time for a client to read what it was sent, before its connection is cut."""


@dataclass
class ServerState:
    """Everything that the routes share."""

    root: Path
    """Directory of runs, absolute and without links."""
    token: str
    """Secret that every request brings, as a bearer token or by the cookie that /login sets."""
    data_directories: tuple[Path, ...]
    """Directories whose data sets may be trained on."""
    host: str
    """Address that the server listens at."""
    port: int
    queue: JobQueue
    store: ExperimentStore
    index: RunIndex
    slots: int = 1
    """Jobs that run at a time where there is no GPU."""
    hosts: frozenset[str] = frozenset()
    """Names by which the server may be called, without a port; those of this machine's loopback are always allowed."""
    limits: Limits = field(default_factory=Limits)
    started_at: float = field(default_factory=time.time)
    """Unix seconds."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends: streams and threads then end too."""

    @property
    def directory(self) -> Path:
        """Directory of the server's own files."""
        return self.root / DIRECTORY

    @property
    def url(self) -> str:
        """Address of the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Close what is open on the disk."""
        self.queue.close()
        self.store.close()

    @property
    def login_link(self) -> str:
        """Address that logs a browser in."""
        return f"{self.url}/login?token={self.token}"

    @property
    def cookie(self) -> tuple[str, str]:
        """Name and value of the cookie. Browsers send cookies to every port of a host, so the name has the port."""
        value = hmac.new(self.token.encode(), b"cookie", hashlib.sha256).hexdigest()
        return f"session_{self.port}", value


def make_state(root: Path, *, slots: int = 1, **further: Any) -> ServerState:
    """Return the state of a server on a root, with its index and its queue.

    Args:
        root: as `open_root` returns it.
        slots: jobs that run at a time where there is no GPU.
        further: other fields of `ServerState`.
    """
    from tools.server.reading.run_index import RunIndex
    from training.experiments.jobs.job_queue import JobQueue
    from training.experiments.store.index import ExperimentStore

    queue, store = JobQueue(root, slots), ExperimentStore(root)
    return ServerState(root=root, queue=queue, store=store, index=RunIndex(store, queue), slots=slots, **further)


# -- the directory -------------------------------------------------------------------------------------------------


def open_root(root: Path) -> Path:
    """Return a root of runs, absolute and without links, with a directory for the server's files in it.

    Args:
        root: a directory; it is made where its parent is one.

    Raises:
        UserError: it is none, or cannot be read and written.
    """
    try:
        root.mkdir(exist_ok=True)
        whole = root.resolve(strict=True)
        os.scandir(whole).close()
        directory = whole / DIRECTORY
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        found = directory.lstat()
    except FileNotFoundError as error:
        raise UserError(
            f"--root {root}: there is no directory {root.parent}; make it, or choose another root"
        ) from error
    except OSError as error:
        raise UserError(
            f"--root {root}: cannot be used ({error.strerror}); give a directory of runs that you may read and write"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != _user():
        raise UserError(f"{directory}: no directory of this user's; move it away, the server makes its own")
    if found.st_mode & 0o077:
        directory.chmod(0o700)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise UserError(f"{directory}: may not be written; give yourself the right (chmod u+rwx)")
    return whole


def read_or_make_token(directory: Path) -> str:
    """Return the token of a server's directory; it stays the same over restarts, so that cookies keep their worth.

    Raises:
        UserError: the file is a link, belongs to somebody else, can be read by others, or holds something else.
    """
    path = directory / TOKEN
    with contextlib.suppress(FileExistsError):
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _no_link(), 0o600)
        with os.fdopen(made, "wb") as file:
            file.write(secrets.token_urlsafe(32).encode())
            file.flush()
            os.fsync(file.fileno())
    refusal = f"{path}: {{}}; delete it, and the server makes a new one"
    try:
        descriptor = os.open(path, os.O_RDONLY | _no_link() | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        reason = "this is a link" if error.errno == errno.ELOOP else f"it cannot be read ({error.strerror})"
        raise UserError(refusal.format(reason)) from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != _user() or found.st_nlink > 1:
            raise UserError(refusal.format("no file of this user's alone"))
        if os.name != "nt" and found.st_mode & 0o077:
            raise UserError(refusal.format(f"others may read this secret (mode {stat.S_IMODE(found.st_mode):o})"))
        token = file.read(_LONGEST).decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise UserError(refusal.format("it holds no token"))
    return token


@contextlib.contextmanager
def only_server(root: Path) -> Iterator[int]:
    """Keep other servers out of a root while the block runs.

    Yields:
        The open lock file, for `announce`.

    Raises:
        UserError: another server has it, or its disk has no locks.
    """
    path = root / DIRECTORY / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _no_link(), 0o600)
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror}); delete it") from error
    try:
        try:
            is_ours = try_lock(descriptor)
        except OSError as error:
            raise UserError(f"{path}: this disk has no file locks ({error.strerror}); choose another --root") from error
        if not is_ours:
            other = os.read(descriptor, _LONGEST).decode("utf-8", "replace").strip() or "another process"
            raise UserError(f"--root {root}: it is served already, by {other}; use that server, or stop it")
        yield descriptor
    finally:
        os.close(descriptor)


def announce(state: ServerState, lock: int) -> None:
    """Write down where the server is to be found, for whoever looks for it: `server.json`, and in the lock file."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{state.url} (pid {os.getpid()})\n".encode(), 0)
    document = {"url": state.url, "pid": os.getpid(), "started_at": state.started_at}
    path = state.directory / ADDRESS
    write_atomically(path, f"{json.dumps(document)}\n".encode(), durable=False)
    path.chmod(0o600)


def withdraw(state: ServerState) -> None:
    """Take the announcement back."""
    (state.directory / ADDRESS).unlink(missing_ok=True)


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _no_link() -> int:
    return getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
