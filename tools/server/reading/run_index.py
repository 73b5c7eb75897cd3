"""All runs below the root as the server shows them: the rows of the store, with what the queue knows of their jobs.

One thread looks at the run directories, and tells whoever watches which rows have changed. The index keeps nothing that
the disk does not have: a server that is started again has the same rows. Between two looks it holds one small document
per run, whatever the length of the runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tools.server.reading.change_signal import ChangeSignal
from tools.server.reading.events import Status
from training.errors import UserError
from training.experiments.jobs.job_queue import Job, JobQueue
from training.experiments.store.index import ExperimentStore
from training.experiments.store.query import Query
from training.experiments.store.rows import RunRow
from training.record.log import LOG_NAME

LOOK_SECONDS = 1.0
"""Time between two looks at the runs that are at work, while somebody watches."""
WHOLE_SECONDS, WHOLE_UNWATCHED_SECONDS = 5.0, 20.0
"""Time between two looks at all runs, while somebody watches and while nobody does: each is asked for its files."""
REST, LONGEST_REST_SECONDS, LONGEST_REST_AT_WORK_SECONDS = 400.0, 60.0, 5.0
"""Time of rest after a look, by the processor time that it took, for all runs and for those at work alone: each kind of
look takes 0.25 % of a processor, as long as one takes 0.15 s (0.0125 s) at most. A training hardly notices."""
SEARCH_SECONDS = 10.0
"""Time between two searches for runs that a terminal has begun: a walk over a large tree is not free."""
WATCHED_SECONDS = 30.0
"""Time for which a request for a list counts as somebody who watches."""
ENDED = frozenset({"finished", "stopped", "failed"})
"""States that change only if somebody begins again."""
AT_WORK = frozenset({"starting", "running", "stalled", "unreadable"})
"""States of the record of a run whose process lives."""
MOST_NAMED = 500
"""Runs that are asked for by their ids; if more may have changed, all are."""
MOST_REMOVED = 1000
"""Runs that are remembered as removed; who has missed more begins again."""


@dataclass(frozen=True)
class PlacedRun:
    """A run with its directory."""

    name: str
    path: Path


class RunIndex:
    """The rows, kept up to date by `look`, which one thread calls again and again. Any thread may ask.

    Args:
        store: the index of the run directories.
        queue: the jobs; None: this server starts none.
    """

    def __init__(self, store: ExperimentStore, queue: JobQueue | None = None) -> None:
        self._store, self._queue = store, queue
        self.changed = ChangeSignal()
        """Given when rows have changed."""
        self.generation = hashlib.sha256(f"{time.time_ns()}".encode()).hexdigest()[:12]
        """Name of this process's count of revisions."""
        self.revision = 0
        """Number of changes so far."""
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._documents: dict[str, str] = {}  # hash of each run's row
        self._revisions: dict[str, int] = {}  # of its last change
        self._statuses: dict[str, dict[str, Any]] = {}
        self._removed: OrderedDict[str, int] = OrderedDict()
        self._at_work: frozenset[str] = frozenset()  # runs whose state or figures may change this moment
        self._seen_jobs: dict[str, Job] = {}  # as of the last look at all runs; of an ended one always the same object
        self._rest = self._rest_at_work = 0.0
        self._searched_at = self._looked_at = self._looked_at_all = self._watched_at = -1e9
        self._num_watchers = 0
        self._recorded: frozenset[str] = frozenset()
        self.faults: tuple[str, ...] = ()
        """Runs and directories that the disk refused to read at the last look."""

    # -- looking ---------------------------------------------------------------------------------------------------

    def look_if_due(self) -> None:
        """Look, if it is time: rarely while nobody watches, and more often at the runs that are at work."""
        now = time.monotonic()
        is_watched = self._num_watchers > 0 or now - self._watched_at < WATCHED_SECONDS
        begun = time.thread_time()
        if now - self._looked_at_all >= max(WHOLE_SECONDS if is_watched else WHOLE_UNWATCHED_SECONDS, self._rest):
            self.look()
            self._rest = min(LONGEST_REST_SECONDS, REST * (time.thread_time() - begun))
        elif is_watched and now - self._looked_at >= max(LOOK_SECONDS, self._rest_at_work):
            self._look_at_work()
            self._rest_at_work = min(LONGEST_REST_AT_WORK_SECONDS, REST * (time.thread_time() - begun))

    def look(self, *, search: bool = False) -> None:
        """Read what has changed on the disk, and tell who watches.

        Args:
            search: look for new run directories, also if that was done a moment ago.
        """
        with self._looking:
            now = time.monotonic()
            search = search or now - self._searched_at >= SEARCH_SECONDS or self._has_begun()
            self.faults = self._store.refresh(search=search).unreadable
            if search:
                self._searched_at = now
            self._looked_at = self._looked_at_all = now
            touched, jobs = self._store.touched(), self._jobs()
            others = {job_id for job_id, job in jobs.items() if self._seen_jobs.get(job_id) is not job}
            wanted = (touched or frozenset()) | self._at_work | others | (self._seen_jobs.keys() - jobs.keys())
            if touched is None or len(wanted) > MOST_NAMED:
                rows = self._rows_and_jobs(Query(archived=None))
                self._at_work = frozenset()
            else:  # no other row can have changed
                rows = self._rows_and_jobs(Query(ids=tuple(wanted), archived=None)) if wanted else []
                self._at_work -= wanted
            self._seen_jobs = jobs
            self._recorded = self._store.ids()
            self._at_work |= {row.id for row in rows if row.state not in ENDED}
            self._publish(rows, there=self._recorded | jobs.keys() | {row.id for row in rows})

    def _look_at_work(self) -> None:
        """Do the same for the runs that are at work, and for jobs."""
        if self._has_begun():
            self.look(search=True)
            return
        with self._looking:
            self._looked_at = time.monotonic()
            wanted = self._at_work | self._jobs_at_work()
            self._store.refresh(search=False, only=wanted)
            self._publish(self._rows_and_jobs(Query(ids=tuple(wanted), archived=None)) if wanted else [])

    def _jobs_at_work(self) -> frozenset[str]:
        return frozenset(job.id for job in self._jobs().values() if job.state.value not in ENDED)

    def _has_begun(self) -> bool:
        """Return whether a job's run has begun its record since the last search."""
        with self._lock:
            waiting = [job for job in self._jobs().values() if job.id not in self._recorded]
        return any((job.run_dir / LOG_NAME).exists() for job in waiting)

    def _look_once(self) -> None:
        """Look, if nobody has yet: an index that was just made, or is of another server's time, has other rows."""
        if self._looked_at < 0.0:
            self.look()

    def _publish(self, rows: Sequence[RunRow], *, there: Collection[str] | None = None) -> None:
        """Count what is not as it was.

        Args:
            rows: as they are now.
            there: ids of all runs that there are; None: those of before.
        """
        with self._lock:
            before = self.revision
            for row in rows:
                document = row.to_dict()
                mark = hashlib.blake2b(json.dumps(document).encode(), digest_size=16).hexdigest()
                if self._documents.get(row.id) != mark:
                    self.revision += 1
                    self._documents[row.id], self._revisions[row.id] = mark, self.revision
                    self._statuses[row.id] = status_of_row(document)
                    self._removed.pop(row.id, None)
            for run_id in self._documents.keys() - set(there) if there is not None else ():
                self.revision += 1
                del self._documents[run_id], self._revisions[run_id], self._statuses[run_id]
                self._removed[run_id] = self.revision
            while len(self._removed) > MOST_REMOVED:
                self._removed.popitem(last=False)
            is_changed = self.revision != before
        if is_changed:
            self.changed.notify()

    @property
    def position(self) -> str:
        """Place in the stream of changes at which a client stands that has the rows as they are now."""
        return self.position_at(self.revision)

    def position_at(self, revision: int) -> str:
        """Return the id of the event after which a client has all changes up to a revision."""
        return f"{self.generation}-{revision}"

    @property
    def recorded(self) -> frozenset[str]:
        """Ids of the runs that have a record, as of the last look at all of them."""
        return self._recorded

    # -- asking ----------------------------------------------------------------------------------------------------

    def rows(self, query: Query) -> tuple[list[RunRow], int]:
        """Return the runs that a query asks for, and how many there are without its limit and offset.

        Raises:
            UserError: the query cannot be used.
        """
        self._watched_at = time.monotonic()
        self._look_once()
        self._store.refresh(search=False, only=self._at_work)
        jobs, before = self._jobs(), self._store.ids()
        if not query.states and jobs.keys() <= before:
            found, total = self._store.runs(query), self._store.count(query)
            if jobs.keys() <= self._store.ids():  # else a run has begun again, and has no record at this moment
                return self._merged(found, jobs), total
        whole = replace(query, states=(), limit=None, offset=0)
        rows = self._merged(self._store.runs(whole), jobs)
        rows = [*self._waiting(query, {row.id for row in rows}, jobs, before), *rows]
        if query.states:
            rows = [row for row in rows if row.state in query.states]
        end = None if query.limit is None else query.offset + query.limit
        return rows[query.offset : end], len(rows)

    def row(self, run_id: str) -> RunRow | None:
        """Return one run; None: there is none with this id."""
        self._watched_at = time.monotonic()
        self._look_once()
        self._store.refresh(search=False, only=(run_id,))
        found = self._merged(self._store.runs(Query(ids=(run_id,), archived=None)), self._jobs())
        if found:
            return found[0]
        job = self._job(run_id)
        return row_of_job(job, self._position(job)) if job is not None else None

    def find(self, run_id: str) -> PlacedRun | None:
        """Return the directory of a run; None: there is none with this id."""
        self._look_once()
        job = self._job(run_id)
        if job is not None:
            return PlacedRun(job.name, job.run_dir)
        try:
            return PlacedRun(self._store.run(run_id).name, self._store.run_path(run_id))
        except UserError:
            return None

    def status_of(self, run_id: str) -> Status:
        """Return the state of a run as of the last look, with its revision."""
        with self._lock:
            found = self._statuses.get(run_id)
            if found is not None:
                return self._revisions[run_id], found
            return self._removed.get(run_id, 0), None

    def changes_since(self, revision: int) -> tuple[int, list[str], list[str]] | None:
        """Return the revision now, and the runs that were changed and removed since another one.

        None: that is too long ago to be known.
        """
        with self._lock:
            oldest = next(iter(self._removed.values()), 0)
            if revision > self.revision or (len(self._removed) == MOST_REMOVED and revision < oldest):
                return None
            changed = [run_id for run_id, at in self._revisions.items() if at > revision]
            removed = [run_id for run_id, at in self._removed.items() if at > revision]
            return self.revision, changed, removed

    def rows_of(self, run_ids: Sequence[str]) -> list[RunRow]:
        """Return the runs with these ids that there are."""
        wanted = set(run_ids)
        rows = self._rows_and_jobs(Query(ids=tuple(run_ids), archived=None)) if run_ids else []
        return [row for row in rows if row.id in wanted]

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look often while the block runs."""
        with self._lock:
            self._num_watchers += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_watchers -= 1

    # -- jobs ------------------------------------------------------------------------------------------------------

    def _jobs(self) -> dict[str, Job]:
        return {job.id: job for job in self._queue.jobs()} if self._queue is not None else {}

    def _job(self, run_id: str) -> Job | None:
        return self._queue.job(run_id) if self._queue is not None else None

    def _position(self, job: Job) -> int | None:
        return self._queue.position(job.id) if self._queue is not None else None

    def _merged(self, rows: Iterable[RunRow], jobs: Mapping[str, Job]) -> list[RunRow]:
        """Return rows with what is known of their jobs."""
        return [
            with_job(row, job, self._position(job)) if (job := jobs.get(row.id)) is not None else row for row in rows
        ]

    def _rows_and_jobs(self, query: Query) -> list[RunRow]:
        """Return the rows that a query asks for; those of jobs without a record are first."""
        jobs, before = self._jobs(), self._store.ids()
        found = self._merged(self._store.runs(query), jobs)
        return [*self._waiting(query, {row.id for row in found}, jobs, before), *found]

    def _waiting(self, query: Query, known: set[str], jobs: Mapping[str, Job], before: frozenset[str]) -> list[RunRow]:
        """Return the rows of jobs whose runs have no record yet, of those that a query could mean.

        Args:
            query: what is asked for.
            known: runs whose rows were found.
            jobs: all jobs.
            before: runs that the store had before it was asked for those rows. Only a run that it had then, and has
                now, was left out by the query; any other has got or lost its record meanwhile, and is shown as a job.
        """
        if query.where.strip() or query.tags or query.archived:
            return []
        missing = [job for job in jobs.values() if job.id not in known and (not query.ids or job.id in query.ids)]
        left_out = before & self._store.ids() if missing else before
        rows = [row_of_job(job, self._position(job)) for job in missing if job.id not in left_out]
        rows.sort(key=lambda row: _place_in_queue(row.job or {}))
        text = query.text.casefold()
        return [row for row in rows if text in f"{row.name}\n{row.task}\n{row.model}\n{row.backend}".casefold()]


def _place_in_queue(job: Mapping[str, Any]) -> tuple[bool, float]:
    """Return a key by which jobs that wait are in their order, and the others, the newest first, before them."""
    position: int | None = job.get("position")
    return (False, -job.get("created_at", 0.0)) if position is None else (True, position)


def with_job(row: RunRow, job: Job, position: int | None) -> RunRow:
    """Return the row of a run with what is known of its job.

    The job knows more of a state that is no record's, of a process that was killed, and of one that has recorded its
    end and still saves its model; the record knows more of a run at work, such as that it is silent.
    """
    is_of_record = job.state.value == "running" and row.state in AT_WORK
    state, reason = (row.state, row.reason) if is_of_record else (job.state.value, job.reason or row.reason)
    return replace(row, state=state, reason=reason, job=job_document(job, position))


def row_of_job(job: Job, position: int | None) -> RunRow:
    """Return the row of a job whose run has recorded nothing yet."""
    request = job.request
    return RunRow(
        id=job.id, name=job.name, run_id=None, state=job.state.value, reason=job.reason, backend=request.backend,
        task=request.task, model=request.model, device=None, step=0, total_steps=None, progress=None, epoch=None,
        loss=None, val_loss=None, best_loss=None, best_step=None, metrics={}, unit=None, speed=None, eta_seconds=None,
        started_at=job.started_at, updated_at=None, ended_at=job.ended_at, training_seconds=0.0, tags=(), note="",
        archived=False, alerts=(), sparkline=(), num_checkpoints=0, job=job_document(job, position),
    )  # fmt: skip


def job_document(job: Job, position: int | None) -> dict[str, Any]:
    """Return what a row says of its job."""
    return {
        "priority": job.priority, "position": position, "attempt": job.attempt, "created_at": job.created_at,
        "can_stop": job.can_stop, "can_resume": job.can_resume,
    }  # fmt: skip


def status_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a run as plain data, from its row as plain data."""
    keys = ("step", "total_steps", "progress", "eta_seconds", "speed", "unit", "reason", "alerts", "job")
    return {"job_id": row["id"], "status": row["state"], **{key: row[key] for key in keys}}
