"""The index's file: a small SQLite database that may be deleted at any time. No torch.

Nothing in it is the only copy of anything, so a file that is damaged, or of an older version, is not repaired but made
again from the run directories. What remains to be careful about is several processes: the command and a server may both
write. Each writing transaction is made under a lock on a file of its own, so that none waits for SQLite's turns, and
with the rollback journal (`DELETE`): SQLite's write-ahead log needs shared memory, which network disks do not have, and
up to 3.51.2 its reset could lose a transaction. For the same reason the file is never mapped into memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from training.errors import UserError
from training.experiments.store.identity import SERVER_DIRECTORY
from training.machine.output import complain
from training.storage.file_locks import NO_LOCKS, one_at_a_time

DATABASE_NAME = "experiments.sqlite"
LOCK_NAME = "experiments.lock"
APPLICATION_ID = 0x41505452
"""Number in the file's header by which SQLite files of this program are known."""
VERSION = 2
"""Version of the tables, `user_version` in the file's header."""
BUSY_SECONDS = 30.0
"""Longest time for which a transaction waits for another process's."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REFUSED = frozenset(
    {
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL),
        *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM),
    }
)

_TABLES = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,      -- below the root; bytes, since a path need not be text
    signature TEXT,                 -- of the files that were read; NULL: read again at the next look
    name TEXT NOT NULL,
    run_id TEXT,
    recorded TEXT NOT NULL,         -- state in the record; whether its process is still there is asked when it is shown
    backend TEXT, task TEXT, model TEXT, device TEXT, reason TEXT,
    started_at REAL, updated_at REAL, ended_at REAL,
    seconds_per_step REAL,          -- present pace
    units_per_second REAL,          -- of the last update
    allowed_silence REAL,           -- seconds after which a run at work counts as stalled
    note TEXT NOT NULL,
    archived INTEGER NOT NULL,
    details TEXT NOT NULL           -- JSON: what is shown and not asked for by name
) WITHOUT ROWID;
CREATE TABLE settings (
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    key TEXT NOT NULL,              -- dotted
    kind TEXT NOT NULL,             -- null, boolean, number, nan, text or json
    value,                          -- to compare with; NULL for null and nan, which SQLite itself cannot tell apart
    json TEXT NOT NULL,             -- the value as it is
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE INDEX settings_by_key ON settings (key);
CREATE TABLE figures (
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value REAL,                     -- NULL where it is not finite
    is_nan INTEGER NOT NULL,        -- 1: it was measured and is not a finite number
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE INDEX figures_by_name ON figures (name);
CREATE TABLE tags (
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (run, tag)
) WITHOUT ROWID;
CREATE TABLE artefacts (           -- checksums that were taken: they spare reading a file that has not changed since
    run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    taken_at REAL NOT NULL,
    PRIMARY KEY (run, name)
) WITHOUT ROWID;
"""


class Database:
    """The file, with one connection that all threads of this process share.

    Args:
        root: directory that holds all runs.

    Raises:
        UserError: the file cannot be made, belongs to another program, or is of a newer version.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / SERVER_DIRECTORY / DATABASE_NAME
        self._lock_file = root / SERVER_DIRECTORY / LOCK_NAME
        self._mutex = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self.is_new = False
        """Nothing is in it yet: it was made, or made again, since `is_new` was set to False."""
        with self._mutex, self.alone():
            self._open()

    def close(self) -> None:
        """Close the connection."""
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep all other writers of the index out of a block, in this process and in others. Not reentrant.

        Raises:
            UserError: the directory cannot be written to, or its disk has no locks.
        """
        with self._mutex, contextlib.ExitStack() as held:
            try:
                self._make_directory()
                held.enter_context(one_at_a_time(self._lock_file))
            except OSError as error:
                what = "its disk has no file locks" if error.errno in NO_LOCKS else "it cannot be written to"
                raise UserError(
                    f"{self.path.parent}: {what} ({error.strerror}), so no index of the runs can be kept there; give "
                    "--root a directory that you may write to"
                ) from error
            yield

    def version(self) -> tuple[object, int]:
        """Return what changes when another connection than this one has changed the tables, or the file was replaced.

        Call it while `reading`.
        """
        assert self._connection is not None
        return self._identity, int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a block one consistent view of the tables."""
        with self._mutex:
            if not self._is_in_place():
                with self.alone():
                    self._open()
            with self._transaction("BEGIN") as connection:
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Let a block change the tables; an error undoes all of it."""
        with self.alone():
            if not self._is_in_place():
                self._open()
            with self._transaction("BEGIN IMMEDIATE") as connection:
                yield connection

    def is_empty(self) -> bool:
        """Say whether nothing was put into the file yet: it was just made, or deleted meanwhile."""
        with self._mutex:
            return self.is_new or not self._is_in_place()

    def set_aside(self, error: sqlite3.DatabaseError) -> None:
        """Move a damaged file aside, make an empty one, and say so on stderr."""
        with self.alone():
            self.close()
            self._move_aside(str(error))
            self._open()

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        assert connection is not None
        connection.execute(begin)
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite itself has ended it after some errors
                connection.execute("ROLLBACK")
            raise

    # -- the file --------------------------------------------------------------------------------------------------

    def _make_directory(self) -> None:
        directory = self.path.parent
        if directory.is_symlink() or self.path.is_symlink():
            link = directory if directory.is_symlink() else self.path
            raise UserError(f"{link}: it is a link, and the index of the runs is kept in no other place; remove it")
        directory.mkdir(mode=0o700, exist_ok=True)

    def _is_in_place(self) -> bool:
        """Say whether the open file is the one that the path leads to: it may be deleted at any time."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return False
        return self._connection is not None and (status.st_dev, status.st_ino) == self._identity

    def _open(self) -> None:
        self.close()
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            self.close()
            if not is_damage(error):
                if not is_refusal(error):
                    raise
                raise UserError(f"{self.path}: it cannot be used ({error})") from error
            self._move_aside(str(error))
            self._connect()
        status = self.path.stat()
        self._identity = status.st_dev, status.st_ino

    def _connect(self) -> None:
        self._connection = connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        for setting in (
            "mmap_size = 0",
            "journal_mode = DELETE",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            "temp_store = MEMORY",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {setting}")
        self._use_or_make_tables(connection)
        _complete(connection)

    def _use_or_make_tables(self, connection: sqlite3.Connection) -> None:
        def header(name: str) -> int:
            return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        version, application = header("user_version"), header("application_id")
        if tables and application != APPLICATION_ID:
            raise UserError(f"{self.path}: it is a database of another program; move it away")
        if tables and version > VERSION:
            raise UserError(
                f"{self.path}: a newer version of this program made it (version {version}, this program reads "
                f"{VERSION}); update this program, or delete the file: it is made again from the run directories"
            )
        if tables and version == VERSION:
            return
        # Tables of an older version are not converted: all that they hold is in the run directories.
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN IMMEDIATE")
        for name in tables:
            connection.execute(f'DROP TABLE "{name}"')
        _make_tables(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA foreign_keys = ON")
        self.path.chmod(0o600)
        self.is_new = True

    def _move_aside(self, reason: str) -> None:
        aside = self.path.with_name(f"{DATABASE_NAME}.damaged")
        self.path.replace(aside)
        self.path.with_name(f"{DATABASE_NAME}-journal").unlink(missing_ok=True)  # it belongs to the damaged file
        complain(
            f"note: {self.path} is damaged ({reason}): moved to {aside.name}, and the index of the runs is made again"
        )


def in_memory() -> sqlite3.Connection:
    """Return an empty index without a file: conditions can be asked of whatever `put_run` puts into it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _make_tables(connection)
    _complete(connection)
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";\n"):
        connection.execute(statement)


def _complete(connection: sqlite3.Connection) -> None:
    """Give a connection what conditions use besides the tables."""
    connection.create_function("folded", 1, _folded, deterministic=True)
    connection.execute("CREATE TEMP TABLE live (run TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID")


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Say whether an error is about a file that holds no usable database, and not about a disk or another process."""
    return _code(error) in _DAMAGED


def is_refusal(error: sqlite3.DatabaseError) -> bool:
    """Say whether the disk, the rights or another process do not let the file be used."""
    return _code(error) in _REFUSED


def _code(error: sqlite3.DatabaseError) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF  # the higher bits say more of the same


def _folded(text: object) -> str:
    """Return a text without differences of case, in all alphabets (SQLite's `lower` knows ASCII only)."""
    return str(text).casefold() if text is not None else ""
