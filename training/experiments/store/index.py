"""The experiment store: an index of all runs below a root, which their directories make true. No torch.

The index owns nothing. Training never opens it, every row is a reading of a run directory (`rows`), and the file may be
deleted at any time: the next look makes the same rows again.

Example:
    >>> with ExperimentStore(Path("runs")) as store:
    ...     store.refresh()
    ...     best = store.runs(Query(where="task = 'text' and val_loss < 2", sort="val_loss", limit=1))
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from training.checkpoints.run_directory import CONFIG_NAME, RunDirectory, asides_of_kills, leftovers_of_kills
from training.checkpoints.run_lock import RunLock, owner_of
from training.checkpoints.run_search import find_runs, read_settings
from training.errors import UserError, did_you_mean
from training.experiments.store.annotations import (
    Annotations,
    checked_note,
    checked_tags,
    read_annotations,
    write_annotations,
)
from training.experiments.store.artefacts import Condition, Remembered, RunArtefact, artefacts_of, remember, verified
from training.experiments.store.database import Database, is_damage, is_refusal
from training.experiments.store.identity import (
    ID_LENGTH,
    directory_of,
    id_of_relative,
    name_of,
)
from training.experiments.store.names import Name, Names
from training.experiments.store.query import Query, condition_of, order_of, sortable
from training.experiments.store.rows import (
    LONGEST_TEXT,
    RACY_SECONDS,
    IndexedRun,
    Pace,
    RunRow,
    Signature,
    live_state,
    read_run,
    row_now,
    signature_of,
)
from training.record.log import LOG_NAME, REPORT_NAME
from training.record.run_state import State
from training.storage.atomic import delete

MOST_SETTINGS_KEPT = 64
"""Runs whose settings are kept: more than are at work at a time."""
RUNS_PER_TRANSACTION = 200
"""Runs that are read before what was read is kept: a first look at thousands of runs may be interrupted."""
LEAST_OF_ID = 4
"""Characters of an id by which a run can be named."""
_LARGEST = 2**63

T = TypeVar("T")


@dataclass(frozen=True)
class Changes:
    """What a look at the run directories has found, by id."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Runs whose files were read again; the row may be the same."""
    removed: tuple[str, ...] = ()
    bytes_read: int = 0
    """Bytes of the runs' records."""
    unreadable: tuple[str, ...] = ()
    """Runs and directories that the disk refused to read, one line each; what was known of them stays."""

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True)
class Group:
    """Runs that have one value of a setting, a figure or a column in common."""

    value: Any
    """None: the value is not known."""
    runs: tuple[RunRow, ...]


@dataclass(frozen=True)
class Deleted:
    """What became of a run that was deleted."""

    row: RunRow
    kept: tuple[str, ...]
    """Names of what stays in its directory, because no run wrote it; empty: the directory is gone."""


@dataclass
class _Reading:
    """One run as it was read, or why it was not."""

    path: str
    files: Signature | None = None
    """What the files were like before they were read."""
    run: IndexedRun | None = None
    signature: str | None = None
    """The same, to know the files by at the next look; None: they must be read again then."""
    is_gone: bool = False
    fault: str = ""


class _KeptSettings:
    """Settings of the runs that were read last: a run at work is read every second, and its config stays the same.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[Path, tuple[tuple[int, ...], dict[str, Any]]] = OrderedDict()

    def of(self, run_dir: Path) -> dict[str, Any]:
        """Return the settings of a run directory, as `read_settings` does."""
        try:
            status = (run_dir / CONFIG_NAME).stat()
        except OSError:
            return read_settings(run_dir)
        signature = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        kept = self._kept.pop(run_dir, None)
        found = kept if kept is not None and kept[0] == signature else (signature, read_settings(run_dir))
        if max(status.st_mtime_ns, status.st_ctime_ns) / 1e9 < self._clock() - RACY_SECONDS:
            self._kept[run_dir] = found
            if len(self._kept) > MOST_SETTINGS_KEPT:
                self._kept.popitem(last=False)
        return found[1]


class ExperimentStore:
    """The index of the runs below a root. Threads may share it; other processes may use the same file.

    Args:
        root: directory that holds all runs.
        clock: Unix seconds.

    Raises:
        UserError: there is no such directory, or the index cannot be kept in it.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        if not root.is_dir():
            found = "this is a file" if root.exists() else "there is no such directory"
            raise UserError(f"--root {root}: {found}; give the directory above your run directories")
        self.root = root
        self._clock = clock
        self._database = Database(root)
        self._settings = _KeptSettings(clock)
        self._touched: set[str] = set()
        self._version: object = None

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- keeping it true -------------------------------------------------------------------------------------------

    def refresh(self, *, search: bool = True, only: Collection[str] | None = None) -> Changes:
        """Read the runs again whose files have changed.

        Args:
            search: look for new runs too, which walks through all directories below the root.
            only: ids of the runs that are looked at, such as those at work; None: all.

        Returns:
            What has changed.
        """
        return self._retried(lambda: self._refresh(search, everything=False, only=only))

    def reindex(self) -> Changes:
        """Read all runs again, whether or not their files have changed."""
        return self._retried(lambda: self._refresh(search=True, everything=True))

    def read_again(self, run_id: str) -> None:
        """Read one run again, for whoever has just changed it.

        Raises:
            UserError: no run has this id.
        """
        path = self._relative(self.run_path(run_id))
        self._retried(lambda: self._keep([self._read(path, None)]))

    def _refresh(self, search: bool, everything: bool, only: Collection[str] | None = None) -> Changes:
        with self._database.reading() as connection:
            search = search or self._database.is_new  # of a file that was just made all rows are missing
            known = {os.fsdecode(path): signature for path, signature in connection.execute(_KNOWN)}
        faults: list[str] = []
        paths = [path for path in known if only is None or id_of_relative(path) in only]
        if search:
            found = self._search(faults)
            paths = list(dict.fromkeys([*found, *known]))
        added: list[str] = []
        changed: list[str] = []
        removed: list[str] = []
        bytes_read = 0
        for start in range(0, len(paths), RUNS_PER_TRANSACTION):
            readings = []
            for path in paths[start : start + RUNS_PER_TRANSACTION]:
                reading = self._read(path, None if everything else known.get(path))
                if reading is not None:
                    readings.append(reading)
            self._keep(readings)
            for reading in readings:
                run_id = id_of_relative(reading.path)
                if reading.fault:
                    faults.append(reading.fault)
                elif reading.is_gone:
                    if reading.path in known:
                        removed.append(run_id)
                elif reading.run is not None:
                    (changed if reading.path in known else added).append(run_id)
                    bytes_read += reading.run.bytes_read
        if search:
            self._database.is_new = False
        return Changes(tuple(added), tuple(changed), tuple(removed), bytes_read, tuple(faults))

    def _search(self, faults: list[str]) -> list[str]:
        """Return the paths of all runs below the root that have a record."""
        refused: list[OSError] = []
        found = []
        for path in find_runs([self.root], refused):
            try:
                has_record = any((path / name).exists() for name in (LOG_NAME, REPORT_NAME))
            except OSError as error:
                refused.append(error)
                continue
            if has_record:
                found.append(self._relative(path))
        faults += [f"{error.filename}: it cannot be searched ({error.strerror})" for error in refused]
        return found

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _read(self, path: str, signature: str | None) -> _Reading | None:
        """Read a run; None: its files are as they were when this signature was taken."""
        now = self._clock()
        try:
            files = signature_of(directory_of(self.root, path))
            if files.text == signature:
                return None
            run = read_run(self.root, path, self._settings.of)
            return _Reading(path, files, run, files.text if files.is_settled(now) else None)
        except (FileNotFoundError, NotADirectoryError):
            return _Reading(path, is_gone=True)
        except OSError as error:
            return _Reading(path, fault=f"{name_of(self.root, path)}: it cannot be read ({error.strerror or error})")

    def _keep(self, readings: Sequence[_Reading | None]) -> None:
        wanted = [reading for reading in readings if reading is not None and not reading.fault]
        if not wanted:
            return
        with self._database.writing() as connection:
            for reading in map(self._as_of_now, wanted):
                if reading.run is not None:
                    self._touched.add(reading.run.row.id)
                    put_run(connection, reading.run, reading.signature)
                elif not reading.fault:
                    self._touched.add(id_of_relative(reading.path))
                    connection.execute("DELETE FROM runs WHERE id = ?", (id_of_relative(reading.path),))

    def _as_of_now(self, reading: _Reading) -> _Reading:
        """Return a reading, made again if the run has changed since: another process may have kept a newer one."""
        try:
            is_current = signature_of(directory_of(self.root, reading.path)) == reading.files
        except OSError:
            is_current = False
        return reading if is_current else self._read(reading.path, None) or reading

    # -- asking ----------------------------------------------------------------------------------------------------

    def runs(self, query: Query = Query()) -> list[RunRow]:  # noqa: B008  # it is immutable
        """Return the runs that a query asks for, as they are now.

        Raises:
            UserError: the query cannot be used.
        """
        return self._asked(lambda: self._runs(query))

    def count(self, query: Query = Query()) -> int:  # noqa: B008
        """Return how many runs a query asks for, its limit and offset aside.

        Raises:
            UserError: the query cannot be used.
        """

        def ask() -> int:
            with self._asking() as connection:
                condition = condition_of(query, Names(connection))
                found = connection.execute(f"SELECT COUNT(*) FROM runs WHERE {condition.sql}", condition.parameters)
                return int(found.fetchone()[0])

        return self._asked(ask)

    def ids(self) -> frozenset[str]:
        """Return the ids of all runs in the index."""

        def ask() -> frozenset[str]:
            with self._asking() as connection:
                return frozenset(found for (found,) in connection.execute("SELECT id FROM runs"))

        return self._asked(ask)

    def touched(self) -> frozenset[str] | None:
        """Return the runs whose rows were written since this was asked last; None: any may have been, by a process.

        Rows of runs at work change by themselves too. For one caller, which shows rows as they change.
        """

        def ask() -> frozenset[str] | None:
            with self._database.reading():
                version = self._database.version()
                found = frozenset(self._touched) if version == self._version else None
                self._touched.clear()
                self._version = version
                return found

        return self._asked(ask)

    def groups(self, by: str, query: Query = Query()) -> list[Group]:  # noqa: B008
        """Return the runs that a query asks for, grouped by a setting, a figure or a column.

        Args:
            by: its name.
            query: which runs; its order holds within each group.

        Returns:
            The groups in order of their value, the one without a value last.

        Raises:
            UserError: the query cannot be used, or nothing bears the name.
        """

        def ask() -> list[Group]:
            with self._asking() as connection:
                name = sortable(by, Names(connection), "--group-by")
                values = dict(connection.execute(f"SELECT id, {_grouping(name)} FROM runs", name.parameters))
            groups: dict[object, list[RunRow]] = {}
            for row in self._runs(query):
                groups.setdefault(values.get(row.id), []).append(row)
            found = [
                Group(json.loads(str(key)) if name.exact and key is not None else key, tuple(rows))
                for key, rows in groups.items()
            ]
            return sorted(found, key=lambda group: _order(group.value))

        return self._asked(ask)

    def run(self, id_or_name: str) -> RunRow:
        """Return one run.

        Args:
            id_or_name: its id or the beginning of it, its name, or the last part of its name if no other has it.

        Raises:
            UserError: there is none, or there are several; the message proposes a name.
        """
        return self._asked(lambda: self._run(id_or_name))

    def run_path(self, run_id: str) -> Path:
        """Return the directory of a run.

        Raises:
            UserError: no run has this id.
        """

        def ask() -> Path:
            with self._database.reading() as connection:
                found = connection.execute("SELECT path FROM runs WHERE id = ?", (run_id,)).fetchone()
            if found is None:
                raise UserError(f"run {run_id}: there is no such run below {self.root}")
            return directory_of(self.root, os.fsdecode(found[0]))

        return self._asked(ask)

    def settings(self, run_id: str) -> dict[str, Any]:
        """Return the settings of a run, by dotted name; {}: it has none that can be read, or there is no such run."""
        return self.settings_of([run_id]).get(run_id, {})

    def figures(self, run_id: str) -> dict[str, float]:
        """Return the numbers that a run's record ends with, by name; NaN: measured, and not finite."""
        return self.figures_of([run_id]).get(run_id, {})

    def settings_of(self, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the settings of several runs, by id."""
        rows = self._of_runs("SELECT run, key, json FROM settings WHERE run IN ({}) ORDER BY run, key", run_ids)
        return _by_run((run, key, json.loads(value)) for run, key, value in rows)

    def figures_of(self, run_ids: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the figures of several runs, by id."""
        rows = self._of_runs("SELECT run, name, value FROM figures WHERE run IN ({}) ORDER BY run, name", run_ids)
        return _by_run((run, name, math.nan if value is None else value) for run, name, value in rows)

    def values_of(self, names: Sequence[str], run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the values of settings, figures or columns, by name and by id; runs that have none are left out.

        Raises:
            UserError: nothing bears one of the names.
        """

        def ask() -> dict[str, dict[str, Any]]:
            found: dict[str, dict[str, Any]] = {}
            wanted = set(run_ids)
            with self._asking() as connection:
                known = Names(connection)
                for text in names:
                    name = sortable(text, known, "--columns")
                    rows = connection.execute(f"SELECT id, {_grouping(name)} FROM runs", name.parameters)
                    values = {run_id: value for run_id, value in rows if value is not None and run_id in wanted}
                    found[text] = {run_id: json.loads(v) if name.exact else v for run_id, v in values.items()}
            return found

        return self._asked(ask)

    def tags(self) -> dict[str, int]:
        """Return all tags, with the number of runs that have each."""

        def ask() -> dict[str, int]:
            with self._database.reading() as connection:
                return dict(connection.execute("SELECT tag, COUNT(*) FROM tags GROUP BY tag ORDER BY tag"))

        return self._asked(ask)

    def _of_runs(self, statement: str, run_ids: Sequence[str]) -> list[tuple[Any, ...]]:
        def ask() -> list[tuple[Any, ...]]:
            with self._database.reading() as connection:
                found: list[tuple[Any, ...]] = []
                for start in range(0, len(run_ids), RUNS_PER_TRANSACTION):
                    some = run_ids[start : start + RUNS_PER_TRANSACTION]
                    found += connection.execute(statement.format(", ".join("?" * len(some))), tuple(some))
                return found

        return self._asked(ask)

    def _runs(self, query: Query) -> list[RunRow]:
        now = self._clock()
        with self._asking() as connection:
            names = Names(connection)
            condition, order = condition_of(query, names), order_of(query, names)
            rows = connection.execute(
                f"SELECT {_SHOWN} FROM runs WHERE {condition.sql} ORDER BY {order.sql} LIMIT ? OFFSET ?",
                (
                    *condition.parameters,
                    *order.parameters,
                    -1 if query.limit is None else max(0, query.limit),
                    max(0, query.offset),
                ),
            )
            return [_shown(row, now) for row in rows]

    def _run(self, id_or_name: str) -> RunRow:
        with self._database.reading() as connection:
            known = connection.execute("SELECT id, name FROM runs ORDER BY name").fetchall()
        asked = id_or_name.rstrip("/") or id_or_name
        ways: list[Callable[[str, str], bool]] = [
            lambda run_id, name: run_id == asked,
            lambda run_id, name: name == asked,
            lambda run_id, name: name.rpartition("/")[2] == asked,
            lambda run_id, name: LEAST_OF_ID <= len(asked) <= ID_LENGTH and run_id.startswith(asked),
        ]
        for way in ways:
            found = [(run_id, name) for run_id, name in known if way(run_id, name)]
            if len(found) > 1:
                listed = ", ".join(f"{name} ({run_id})" for run_id, name in found[:8])
                raise UserError(f"run {asked}: {len(found)} runs may be meant; write one of {listed}")
            if found:
                return self._runs(Query(ids=[found[0][0]], archived=None, sort=""))[0]
        names = [name for _, name in known]
        hint = did_you_mean(asked, [*names, *(name.rpartition("/")[2] for name in names)])
        raise UserError(f"run {asked}: there is no such run below {self.root}{hint}")

    @contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        """Give a block one view of the tables, in which the states of runs at work are those of now."""
        now = self._clock()
        with self._database.reading() as connection:
            connection.execute("DELETE FROM temp.live")
            at_work = connection.execute(_AT_WORK).fetchall()
            for run_id, path, step, updated_at, allowed in at_work:
                silent = max(0.0, now - updated_at) if updated_at is not None else 0.0
                state = live_state(directory_of(self.root, os.fsdecode(path)), int(step or 0), silent, allowed)
                connection.execute("INSERT INTO temp.live VALUES (?, ?)", (run_id, state.value))
            yield connection

    # -- artefacts -------------------------------------------------------------------------------------------------

    def artefacts(self, run_id: str) -> list[RunArtefact]:
        """Return what a run has made, by name. Nothing large is read: a checksum is there if it was taken before.

        Raises:
            UserError: there is no such run, or its list of logged artefacts cannot be read.
        """
        return artefacts_of(self.run_path(run_id), self._checksums(run_id))

    def checked_artefacts(self, run_id: str, *, again: bool = False) -> list[RunArtefact]:
        """Return what a run has made, each with its checksum; it is read where the checksum is not known.

        Args:
            run_id: of the run.
            again: read everything again, also what has the size and time of an earlier look.

        Raises:
            UserError: there is no such run, or something may not be read.
        """
        path, known = self.run_path(run_id), self._checksums(run_id)
        found = []
        for artefact in artefacts_of(path, known):
            if again or artefact.condition is Condition.UNCHECKED:
                artefact = verified(path, artefact, known.get(artefact.name))
            found.append(artefact)
        now = self._clock()
        kept = {artefact.name: one for artefact in found if (one := remember(artefact, now)) is not None}
        new = {name: one for name, one in kept.items() if known.get(name, _NONE)[:3] != one[:3] and _is_text(name)}

        def keep() -> None:
            with self._database.writing() as connection:
                if connection.execute("SELECT 1 FROM runs WHERE id = ?", (run_id,)).fetchone() is not None:
                    rows = [(run_id, name, *one) for name, one in new.items()]
                    connection.executemany("INSERT OR REPLACE INTO artefacts VALUES (?, ?, ?, ?, ?, ?)", rows)

        if new:
            self._retried(keep)
        return found

    def _checksums(self, run_id: str) -> dict[str, Remembered]:
        columns = "name, bytes, mtime_ns, sha256, taken_at"
        rows = self._of_runs(f"SELECT {columns} FROM artefacts WHERE run IN ({{}})", [run_id])
        return {name: Remembered(*values) for name, *values in rows}

    # -- changing runs ---------------------------------------------------------------------------------------------

    def annotate(
        self,
        run_id: str,
        *,
        tags: Iterable[str] | None = None,
        note: str | None = None,
        archived: bool | None = None,
    ) -> RunRow:
        """Give a run tags, a note, or the mark that leaves it out of lists; None: as it was.

        Returns:
            The run as it is then.

        Raises:
            UserError: there is no such run, a tag cannot be used, or its directory cannot be written to.
        """
        new_tags = checked_tags(tags) if tags is not None else None
        new_note = checked_note(note) if note is not None else None

        def change(before: Annotations) -> Annotations:
            return Annotations(
                before.tags if new_tags is None else new_tags,
                before.note if new_note is None else new_note,
                before.archived if archived is None else archived,
            )

        return self._change(run_id, change)

    def tag(self, run_id: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> RunRow:
        """Add tags to a run and remove others, whatever else happens to its tags at the same time.

        Raises:
            UserError: as `annotate`.
        """
        added, removed = checked_tags(add), set(checked_tags(remove))
        return self._change(
            run_id, lambda before: replace(before, tags=checked_tags([*(set(before.tags) - removed), *added]))
        )

    def _change(self, run_id: str, change: Callable[[Annotations], Annotations]) -> RunRow:
        path = self._place_to_write(run_id)
        with self._database.alone():  # another process may annotate the same run
            try:
                before = read_annotations(path)
            except OSError as error:
                raise UserError(f"{path}: its annotations cannot be read ({error.strerror})") from error
            if (after := change(before)) != before:
                write_annotations(path, after)
        self.read_again(run_id)
        return self.run(run_id)

    def _place_to_write(self, run_id: str) -> Path:
        """Return the directory of a run, if it really lies below the root: a link may have taken its place.

        Raises:
            UserError: there is no such run, or its directory lies elsewhere.
        """
        path = self.run_path(run_id)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise UserError(
                f"{path}: a link leads out of {self.root} there, and nothing is changed elsewhere; remove it"
            )
        return path

    def delete(self, run_id: str) -> Deleted:
        """Delete what a run has written, its annotations included. Anything else in its directory stays.

        Raises:
            UserError: there is no such run, a process is training in its directory, or the disk refuses.
        """
        row, path = self.run(run_id), self._place_to_write(run_id)
        try:
            lock = RunLock.take(path)
        except OSError as error:
            raise UserError(f"run {row.name}: it cannot be deleted ({error.strerror})") from error
        if lock is None:
            owner = owner_of(path)
            who = f" (pid {owner.pid}, since {owner.since()})" if owner is not None else ""
            raise UserError(f"run {row.name}: a process{who} is training in it; stop it first")
        try:
            for leftover in (*asides_of_kills(path), *leftovers_of_kills(path)):
                delete(leftover)
            RunDirectory(path, claim=False).delete_run()
        except OSError as error:
            raise UserError(
                f"run {row.name}: it could not be deleted whole ({error.strerror}); delete it again"
            ) from error
        finally:
            lock.release()
            self._retried(lambda: self._keep([self._read(self._relative(path), None)]))
        kept = sorted(entry.name for entry in path.iterdir())
        if not kept and path.resolve() != self.root.resolve():
            path.rmdir()
        return Deleted(row, tuple(kept))

    # -- a file that is missing or damaged --------------------------------------------------------------------------

    def _asked(self, ask: Callable[[], T]) -> T:
        """Ask the index; one that was just made, or deleted meanwhile, is filled first."""

        def fill_and_ask() -> T:
            if self._database.is_empty():
                self._refresh(search=True, everything=True)
            return ask()

        return self._retried(fill_and_ask)

    def _retried(self, ask: Callable[[], T]) -> T:
        """Do something with the index; where that finds the file damaged, make the index again and do it once more."""
        try:
            return ask()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                if not is_refusal(error):
                    raise
                raise UserError(f"{self._database.path}: it cannot be used now ({error})") from error
            self._database.set_aside(error)
        self._refresh(search=True, everything=True)
        return ask()


_NONE = Remembered(-1, -1, "", 0.0)
_KNOWN = "SELECT path, signature FROM runs ORDER BY name"
_ENDED = f"('{State.FINISHED.value}', '{State.STOPPED.value}', '{State.FAILED.value}', '{State.UNREADABLE.value}')"
_AT_WORK = f"""
SELECT id, path, (SELECT value FROM figures WHERE run = runs.id AND name = 'step'), updated_at, allowed_silence
FROM runs WHERE recorded NOT IN {_ENDED}
"""
_SHOWN = """
details, recorded, (SELECT state FROM temp.live WHERE run = runs.id), seconds_per_step,
units_per_second, allowed_silence
"""


def put_run(connection: sqlite3.Connection, run: IndexedRun, signature: str | None) -> None:
    """Make the index hold a run as it was read, in place of what it held of the same run.

    Args:
        connection: to the index, in a transaction.
        run: the run.
        signature: what its files were like (`rows.signature_of`).
    """
    row = run.row
    columns = {
        "id": row.id, "path": os.fsencode(run.path), "signature": signature, "name": row.name, "run_id": row.run_id,
        "recorded": row.state, "backend": row.backend, "task": row.task, "model": row.model, "device": row.device,
        "reason": row.reason, "started_at": row.started_at, "updated_at": row.updated_at, "ended_at": row.ended_at,
        "seconds_per_step": run.pace.seconds_per_step, "units_per_second": run.pace.units_per_second,
        "allowed_silence": run.pace.allowed_silence, "note": _text(row.note), "archived": row.archived,
        "details": json.dumps(vars(row)),
    }  # fmt: skip
    connection.execute(
        f"INSERT INTO runs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) ON CONFLICT (id) DO UPDATE "
        f"SET {', '.join(f'{name} = excluded.{name}' for name in columns)}",
        tuple(columns.values()),
    )
    for table in ("settings", "figures", "tags"):
        connection.execute(f"DELETE FROM {table} WHERE run = ?", (row.id,))
    connection.executemany(
        "INSERT INTO settings VALUES (?, ?, ?, ?, ?)",
        [(row.id, _text(key), *_setting(value)) for key, value in run.settings.items()],
    )
    connection.executemany(
        "INSERT INTO figures VALUES (?, ?, ?, ?)",
        [
            (row.id, name, value if math.isfinite(value) else None, not math.isfinite(value))
            for name, value in run.figures.items()
        ],
    )
    connection.executemany("INSERT INTO tags VALUES (?, ?)", [(row.id, tag) for tag in row.tags])


def _setting(value: Any) -> tuple[str, str | float | int | None, str]:
    """Return the kind of a setting's value, what it is compared by, and the value as JSON."""
    exact = json.dumps(value, default=str)
    match value:
        case None:
            return "null", None, exact
        case bool():
            return "boolean", int(value), exact
        case float() if math.isnan(value):  # which SQLite would make NULL of, too
            return "nan", None, exact
        case int() if not -_LARGEST < value < _LARGEST:
            return "text", str(value)[:LONGEST_TEXT], exact
        case int() | float():
            return "number", value, exact
        case str():
            return "text", _text(value[:LONGEST_TEXT]), exact
    return "json", exact[:LONGEST_TEXT], exact


def _is_text(value: str) -> bool:
    """Say whether SQLite can hold a text: no halves of surrogate pairs, as bytes of a path that are no text give."""
    return _text(value) == value


def _text(value: str) -> str:
    """Return a text that SQLite can hold: halves of surrogate pairs are escaped."""
    return value.encode("utf-8", "backslashreplace").decode()


def _shown(found: tuple[Any, ...], now: float) -> RunRow:
    details, recorded, live, per_step, per_second, allowed = found
    return row_now(json.loads(details), Pace(per_step, per_second, allowed), State(live or recorded), now)


def _grouping(name: Name) -> str:
    return name.exact or name.sql


def _order(value: Any) -> tuple[int, float, str]:
    """Return a key by which numbers come first, then texts, then what is not known."""
    if value is None:
        return 2, 0.0, ""
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def _by_run(rows: Iterable[tuple[str, str, T]]) -> dict[str, dict[str, T]]:
    found: dict[str, dict[str, T]] = {}
    for run, key, value in rows:
        found.setdefault(run, {})[key] = value
    return found
