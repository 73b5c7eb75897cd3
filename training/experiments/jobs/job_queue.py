"""The queue of a root: jobs are submitted, start when slots are free, are stopped, resumed and deleted. No torch.

    queue = JobQueue(Path("runs"), slots=1)
    job = queue.submit(JobRequest("first", {"run.epochs": 3}))
    while True:
        queue.tick()          # reaps, starts what fits: by priority, then in order
        time.sleep(0.5)

A queue keeps nothing that is not in the files of its jobs. It can be killed at any moment; the next one on the same
root goes on with what it finds, and the jobs that run meanwhile notice neither. One process at a time has a root's
queue; `read_jobs` reads the same without it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.checkpoints.branches import is_branch_name
from training.checkpoints.manifest import checkpoint_directories, is_checkpoint_name
from training.checkpoints.run_lock import RunLock, is_locked, owner_of
from training.errors import EXIT_INTERRUPTED, UserError, printable
from training.experiments.jobs.files import (
    JOB_MARK,
    AttemptFiles,
    AttemptRequest,
    Exit,
    JobDocument,
    JobFiles,
    JobRequest,
    Start,
    Stop,
    as_json,
    job_directories,
    jobs_directory,
)
from training.experiments.jobs.slots import environment_of, free_slots, slots_of_machine
from training.experiments.jobs.states import ENDED, Facts, JobState, occupies_slots, state_of
from training.experiments.store.identity import directory_of, id_of_relative, name_of, relative_path
from training.language.messages import Message
from training.machine.processes import ProcessIdentity, kill_all_with
from training.record.log import LOG_NAME, read_report
from training.storage.atomic import delete, delete_whole

FRONT_DOOR = Path(__file__).resolve().parents[2] / "train.py"
PROCESS = Path(__file__).resolve().with_name("process.py")
LARGEST_PRIORITY = 1000
LONGEST_NAME = 80
"""Characters of a run directory's name."""
LONGEST_NAME_BYTES = 200
_LONGEST_REASON = 500
_LISTED = 8
"""Checkpoints that an error line lists."""
_NEVER_NAMES = frozenset({"node_modules", "__pycache__"})
"""Directories that a search for runs does not enter."""


class UnknownJobError(UserError):
    """No job and no run has this id."""


class JobStateError(UserError):
    """The state of a job does not allow what was asked for."""


class KeyTakenError(UserError):
    """An idempotency key was used before, for something else."""


@dataclass(frozen=True)
class Job:
    """A job at a moment."""

    id: str
    name: str
    run_dir: Path
    request: JobRequest
    state: JobState
    reason: str
    """Why it is in this state, where that is worth a line; empty: nothing is."""
    priority: int
    attempt: int
    """Number of its last start, from 1."""
    created_at: float
    """Unix seconds, as all times here."""
    queued_at: float
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    slots: tuple[str, ...]
    """Slots that it occupies; empty: it waits, or has given them back."""
    process: ProcessIdentity | None
    output: Path
    """File with what the last attempt has printed; it need not be there."""

    @property
    def can_stop(self) -> bool:
        """Return whether `stop` would do anything."""
        return self.state in (JobState.QUEUED, JobState.STARTING, JobState.RUNNING)

    @property
    def can_resume(self) -> bool:
        """Return whether `resume` is allowed."""
        return self.state in (JobState.STOPPED, JobState.FAILED, JobState.LOST)


class _Entry:
    """A job's files, with what has been read of them and cannot change any more."""

    def __init__(self, root: Path, path: Path) -> None:
        self.files = JobFiles(path)
        self.document = self.files.document()
        where = Path(self.document.path)
        if where.is_absolute() or ".." in where.parts or id_of_relative(self.document.path) != self.document.id:
            raise UserError(f"{path}: its run directory does not belong to this id; delete it")
        self.run_dir = directory_of(root, self.document.path)
        self.name = name_of(root, self.document.path)
        self.reload()

    def reload(self) -> None:
        """Read again which attempt is the last one."""
        changed = self.files.priority()
        self.priority = self.document.request.priority if changed is None else changed
        attempts = self.files.attempts()
        if not attempts:
            raise UserError(f"{self.files.path}: the job has no attempt; delete it")
        self.attempt = attempts[-1]
        request = self.attempt.request()
        assert request is not None, "an attempt without one is not listed"
        self.request = request
        self.earlier = attempts[-2] if len(attempts) > 1 else None
        self._start: Start | None = None
        self._process: ProcessIdentity | None = None
        self._exit: Exit | None = None
        self._final: Facts | None = None
        self._shown: tuple[Facts, int, Job] | None = None  # of a job that has ended, with its priority then

    def start(self) -> Start | None:
        self._start = self._start or self.attempt.start()
        return self._start

    def process(self) -> ProcessIdentity | None:
        self._process = self._process or self.attempt.process()
        return self._process

    def exit(self) -> Exit | None:
        self._exit = self._exit or self.attempt.exit()
        return self._exit

    def facts(self) -> Facts:
        """Ask the disk and the system.

        In this order: a process first says who it is, and writes down its end before it is gone, so an end that is not
        there after the process was seen to be gone is one that nobody has written.
        """
        is_locked_run = is_locked(self.run_dir)
        if self._final is not None and not is_locked_run:
            return self._final
        start, process = self.start(), self.process()
        is_alive = start is not None and (
            self.attempt.is_held() or (process is not None and process.is_alive() is True)
        )
        owner = owner_of(self.run_dir) if is_locked_run else None
        has_ranks = owner is not None and start is not None and owner.identity.was_given(JOB_MARK, start.mark)
        ending, stop = self.exit(), self.attempt.stop()
        has_recorded = start is not None and _record_mark(self.run_dir) not in (None, start.record)
        facts = Facts(
            is_started=start is not None,
            is_claimed=process is not None,
            is_alive=is_alive,
            has_ranks=has_ranks,
            is_run_by_other=owner is not None and not has_ranks and not is_alive,
            has_recorded=has_recorded,
            stop=stop,
            exit=ending,
            recorded=None if is_alive or not has_recorded else _outcome(self.run_dir),
        )
        if owner is None and not is_alive and state_of(facts) in ENDED:
            self._final = facts  # only a new attempt changes it, and who trains in the run directory
        return facts

    def write_exit(self, code: int) -> None:
        """Write down how the attempt ended, in the name of its process."""
        self.attempt.write_exit(Exit(code, time.time()))
        self._final = None

    def job(self) -> Job:
        """Return the job as it is now."""
        facts = self.facts()
        if self._shown is not None and self._shown[0] is facts and self._shown[1] == self.priority:
            return self._shown[2]
        state = state_of(facts)
        start, process, ending = self.start(), self.process(), self.exit()
        occupied = start.slots if start is not None and occupies_slots(facts) else ()
        started_at = process.started_at if process is not None else start.started_at if start is not None else None
        job = Job(
            id=self.document.id,
            name=self.name,
            run_dir=self.run_dir,
            request=self.document.request,
            state=state,
            reason=_reason(state, self.attempt, ending, process),
            priority=self.priority,
            attempt=self.attempt.number,
            created_at=self.document.created_at,
            queued_at=self.request.queued_at,
            started_at=started_at,
            ended_at=ending.ended_at if ending is not None and state in ENDED else None,
            exit_code=ending.code if ending is not None else None,
            slots=occupied,
            process=process,
            output=self.attempt.output,
        )
        self._shown = (facts, self.priority, job) if facts is self._final else None
        return job


def _record_mark(run_dir: Path) -> tuple[int, int] | None:
    try:
        status = (run_dir / LOG_NAME).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size


def _outcome(run_dir: Path) -> str | None:
    report = read_report(run_dir)
    state = None if report is None else report.get("state")
    return state if state in (JobState.FINISHED, JobState.STOPPED, JobState.FAILED) else None


def _reason(state: JobState, attempt: AttemptFiles, ending: Exit | None, process: ProcessIdentity | None) -> str:
    if state is JobState.FAILED:
        line = printable(attempt.last_line())[:_LONGEST_REASON]
        return line or f"it ended with exit code {ending.code if ending is not None else '?'}"
    if state is JobState.LOST:
        how = _signal_name(-ending.code) if ending is not None else ""
        who = f"its process (pid {process.pid})" if process is not None else "its process"
        return f"{who} was killed by {how}" if how else f"{who} is gone without a word"
    return ""


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def read_jobs(root: Path, unreadable: list[UserError] | None = None) -> Iterator[Job]:
    """Yield all jobs of a root as they are now, without its queue.

    Args:
        root: directory that holds all runs.
        unreadable: takes an error for each job whose files are damaged; such a job is left out.
    """
    for entry in _entries(root, unreadable if unreadable is not None else []):
        yield entry.job()


def _entries(root: Path, unreadable: list[UserError]) -> Iterator[_Entry]:
    for path in job_directories(root):
        try:
            yield _Entry(root, path)
        except UserError as error:
            unreadable.append(error)


class JobQueue:
    """Starts and stops the jobs of a root. All methods may be called from any thread.

    Args:
        root: directory that holds all runs; made if it is missing.
        slots: jobs that may train at a time where the machine has no GPU; with GPUs, each GPU is a slot.
        program: Python file that a job runs with its command line.

    Raises:
        UserError: another process has the queue of this root, or it cannot be written to.
    """

    def __init__(self, root: Path, slots: int = 1, *, program: Path = FRONT_DOOR) -> None:
        self._root, self._program = root, program.resolve()
        self._directory = jobs_directory(root)
        self._lock = threading.RLock()
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._is_closed = False
        self.problem = ""
        """Why the last `tick` could not start something, in one line; empty: it could do all."""
        self.unreadable: list[UserError] = []
        """An error for each job whose files are damaged; it is left alone."""
        self._owner = self._take()
        self.slots = slots_of_machine(slots)
        """Names of all slots."""
        for leftover in self._directory.glob(".*.tmp"):  # a job that was not submitted, or half deleted, at a kill
            delete(leftover)
        self._entries = {entry.document.id: entry for entry in _entries(root, self.unreadable)}
        self._by_key = {
            entry.document.request.key: entry.document.id
            for entry in self._entries.values()
            if entry.document.request.key is not None
        }

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Let one thread at a time change something.

        Raises:
            UserError: the queue was closed: another process may have it.
        """
        with self._lock:
            if self._is_closed:
                raise UserError(Message("the server is ending and takes no more orders; ask again when it runs"))
            yield

    def _take(self) -> RunLock:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.parent.chmod(0o700)
            lock = RunLock.take(self._directory)
        except OSError as error:
            raise UserError(
                f"{self._directory}: it cannot be written to ({error.strerror}); choose another --root"
            ) from error
        if lock is None:
            owner = owner_of(self._directory)
            who = f" (pid {owner.pid}, since {owner.since()})" if owner is not None else ""
            raise UserError(
                f"{self._root}: another server{who} has the jobs of this root; stop it or choose another --root"
            )
        return lock

    def close(self) -> None:
        """Let another process have the queue. Jobs that run go on."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._owner.release()

    # -- what there is ---------------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """Return all jobs, in the order in which they were submitted."""
        with self._lock:
            found = [entry.job() for entry in self._entries.values()]
        return sorted(found, key=lambda job: (job.created_at, job.id))

    def job(self, job_id: str) -> Job | None:
        """Return one job; None: no job has this id."""
        with self._lock:
            entry = self._entries.get(job_id)
            return None if entry is None else entry.job()

    def position(self, job_id: str) -> int | None:
        """Return how many jobs start before this one, and itself, from 1; None: it does not wait."""
        with self._lock:
            entry = self._entries.get(job_id)
            if entry is None or entry.job().state is not JobState.QUEUED:
                return None
            waiting = [other.document.id for other in self._waiting()]
        return waiting.index(job_id) + 1 if job_id in waiting else None

    def used_slots(self) -> frozenset[str]:
        """Return the names of the slots that jobs occupy."""
        with self._lock:
            return frozenset(slot for entry in self._entries.values() for slot in entry.job().slots)

    def _waiting(self) -> list[_Entry]:
        return _in_order(entry for entry in self._entries.values() if entry.job().state is JobState.QUEUED)

    def _next_place(self) -> int:
        return 1 + max((entry.request.place for entry in self._entries.values()), default=0)

    # -- what users ask for ----------------------------------------------------------------------------------------

    def submit(self, request: JobRequest) -> Job:
        """Put a new job at the end of the queue. It is on the disk when this returns.

        Args:
            request: settings that were checked; its name becomes that of a run directory, with a number behind it where
                that is taken.

        Returns:
            The job; the earlier one where the request's key was used before.

        Raises:
            KeyTakenError: the key was used before, for something else.
            UserError: the name cannot be a directory's, or the priority is out of range.
        """
        from training.settings.yaml_files import yaml_text  # pydantic

        _check_priority(request.priority)
        try:
            as_json(request)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"settings of {request.name!r}: {error}; give numbers, texts, lists and mappings"
            ) from error
        with self._changing():
            if request.key is not None and (earlier := self._by_key.get(request.key)) is not None:
                entry = self._entries[earlier]
                if as_json(entry.document.request) != as_json(request):  # as it will be read from the disk
                    raise KeyTakenError(
                        f"idempotency key {request.key!r} was used for another request (job {earlier}); use a new one"
                    )
                return entry.job()
            run_dir = self._new_run_directory(directory_name_of(request.name))
            return self._create(request, run_dir, yaml_text(dict(request.settings))).job()

    def _create(
        self, request: JobRequest, run_dir: Path, settings: str, adopted: bool = False, checkpoint: str | None = None
    ) -> _Entry:
        relative, now = relative_path(self._root, run_dir), time.time()
        document = JobDocument(id_of_relative(relative), relative, now, request, adopted)
        path = self._directory / document.id
        JobFiles.create(path, document, settings, AttemptRequest(self._next_place(), now, adopted, checkpoint))
        entry = self._entries[document.id] = _Entry(self._root, path)
        if request.key is not None:
            self._by_key[request.key] = document.id
        return entry

    def _new_run_directory(self, name: str) -> Path:
        number = 1
        while True:
            path = self._root / (name if number == 1 else f"{name}-{number}")
            if not os.path.lexists(path) and id_of_relative(relative_path(self._root, path)) not in self._entries:
                return path
            number += 1

    def stop(self, job_id: str, *, at_once: bool = False, run_dir: Path | None = None) -> None:
        """Ask a job to stop: it saves a checkpoint first. One that waits does not start.

        Args:
            job_id: of the job, or of a run that was started without a server.
            at_once: kill all of its processes; what was done since the last checkpoint is lost.
            run_dir: of such a run.

        Raises:
            UnknownJobError: there is none.
            JobStateError: it has ended.
        """
        with self._changing():
            entry = self._entries.get(job_id)
            facts = None if entry is None else entry.facts()
            if entry is None or facts is None or facts.is_run_by_other:
                _stop_other(job_id, entry.run_dir if entry is not None else run_dir, at_once)
                return
            state = state_of(facts)
            if state in ENDED:
                raise JobStateError(
                    Message(
                        "job {name} has ended already ({state}); there is nothing to stop",
                        name=entry.name, state=Message(state.value),
                    )
                )  # fmt: skip
            if facts.stop is None or (at_once and not facts.stop.at_once):
                entry.attempt.write_stop(Stop(time.time(), at_once))
            if at_once:
                _kill(entry)

    def resume(
        self,
        job_id: str,
        *,
        run_dir: Path | None = None,
        backend: str | None = None,
        checkpoint: str | None = None,
    ) -> Job:
        """Queue a job again, at the end: it goes on from its newest good checkpoint, or from the one that is named.

        From an earlier checkpoint it goes on as `train.py --resume RUN/CHECKPOINT` does: later checkpoints and the
        finished model are set aside in a directory of their own, and the record goes back to that step.

        Args:
            job_id: of the job, or of a run that was started without a server.
            run_dir: of such a run.
            backend: that it is resumed on.
            checkpoint: name of a checkpoint in the run directory; with it, a job that has finished is resumed too.

        Raises:
            UnknownJobError: there is none.
            JobStateError: it has not ended, has finished, or has no (such) checkpoint to go on from.
        """
        with self._changing():
            entry = self._entries.get(job_id)
            if entry is None:
                return self._adopt(job_id, run_dir, backend, checkpoint).job()
            job = entry.job()
            if not (job.can_resume or (checkpoint is not None and job.state is JobState.FINISHED)):
                is_over = job.state is JobState.FINISHED
                why = (
                    Message("it has finished") if is_over else Message("it is {state}", state=Message(job.state.value))
                )
                raise JobStateError(Message("job {name} cannot be resumed: {why}", name=job.name, why=why))
            _check_checkpoint(job.run_dir, job.name, checkpoint)
            number = job.attempt + 1
            request = AttemptRequest(self._next_place(), time.time(), True, checkpoint)
            entry.files.attempt(number).write_request(request)
            entry.reload()
            return entry.job()

    def _adopt(self, job_id: str, run_dir: Path | None, backend: str | None, checkpoint: str | None) -> _Entry:
        if run_dir is None:
            raise UnknownJobError(f"there is no job {job_id}")
        if is_locked(run_dir):
            raise JobStateError(Message("run {name} cannot be resumed: a process is training in it", name=run_dir.name))
        if not checkpoint_directories(run_dir):
            raise JobStateError(Message("run {name} cannot be resumed: it has no checkpoint", name=run_dir.name))
        _check_checkpoint(run_dir, run_dir.name, checkpoint)
        return self._create(JobRequest(run_dir.name, backend=backend), run_dir, "", adopted=True, checkpoint=checkpoint)

    def set_priority(self, job_id: str, priority: int) -> Job:
        """Change the priority of a job; one that runs keeps its slots.

        Raises:
            UnknownJobError: there is none.
            UserError: the priority is out of range.
        """
        _check_priority(priority)
        with self._changing():
            entry = self._known(job_id)
            entry.files.write_priority(priority)
            entry.priority = priority
            return entry.job()

    def delete(self, job_id: str, *, files: bool, run_dir: Path | None = None) -> None:
        """Delete a job that does not run.

        Args:
            job_id: of the job, or of a run that was started without a server.
            files: delete what its run has written too: record, checkpoints, models. A user's other files in the run
                directory stay.
            run_dir: of such a run.

        Raises:
            UnknownJobError: there is none.
            JobStateError: it runs, or a process is training in the run directory.
        """
        from training.checkpoints.run_directory import RunDirectory

        with self._changing():
            entry = self._entries.get(job_id)
            if entry is None and (run_dir is None or not files):
                raise UnknownJobError(f"there is no job {job_id}")
            if entry is not None:
                run_dir, facts = entry.run_dir, entry.facts()
                if facts.is_alive or facts.has_ranks or (facts.is_run_by_other and files):
                    raise JobStateError(Message("job {name} is at work; stop it first", name=entry.name))
                if facts.is_started and entry.job().state is JobState.STARTING:
                    raise JobStateError(Message("job {name} is about to start; stop it first", name=entry.name))
            if files and run_dir is not None and run_dir.is_dir():
                if is_locked(run_dir):
                    raise JobStateError(Message("a process is training in {name}; stop it first", name=run_dir.name))
                directory = RunDirectory(run_dir, resume=True)  # nobody else can begin in it meanwhile
                try:
                    directory.delete_run()
                finally:
                    directory.release()
                with contextlib.suppress(OSError):  # the user's own files are in it
                    run_dir.rmdir()
            # Last: after a kill in between, the job is still there to be deleted.
            if entry is not None:
                delete_whole(entry.files.path)
                del self._entries[job_id]
                if entry.document.request.key is not None:
                    self._by_key.pop(entry.document.request.key, None)

    def _known(self, job_id: str) -> _Entry:
        entry = self._entries.get(job_id)
        if entry is None:
            raise UnknownJobError(f"there is no job {job_id}")
        return entry

    # -- what happens by itself ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Do what is due: write down how children ended that could not, kill what must go at once, start what fits.

        After `close` it does nothing. A disk that refuses, or a system without room for a process, is said in
        `problem`; the next tick tries again.
        """
        with self._lock:
            if self._is_closed:
                return
            self.problem = ""
            for entry in self._entries.values():
                with self._said(entry):
                    self._settle(entry)
            now = [(entry, entry.job()) for entry in self._entries.values()]
            free = free_slots(self.slots, {slot for _, job in now for slot in job.slots})
            for entry in _in_order(entry for entry, job in now if job.state is JobState.QUEUED):
                if is_locked(entry.run_dir) or (entry.earlier is not None and entry.earlier.is_held()):
                    continue  # its last attempt is about to end, or somebody else has begun to train there
                need = min(max(1, entry.document.request.slots), len(self.slots))
                if need > len(free):
                    break  # whoever is behind it waits too: else a large job would wait for ever
                with self._said(entry):
                    self._begin(entry, free[:need])
                    free = free[need:]

    @contextlib.contextmanager
    def _said(self, entry: _Entry) -> Iterator[None]:
        try:
            yield
        except (OSError, UserError) as error:
            self.problem = printable(f"job {entry.name}: {error}")

    def _settle(self, entry: _Entry) -> None:
        """Go on with an attempt where the process or an earlier scheduler has left it."""
        start, child = entry.start(), self._children.get(entry.attempt.path)
        if start is None or entry.exit() is not None:
            if child is not None and child.returncode is not None:
                del self._children[entry.attempt.path]
            return
        facts = entry.facts()
        if facts.stop is not None and facts.stop.at_once and (facts.is_alive or facts.has_ranks):
            _kill(entry)
            return
        if child is not None and child.returncode is not None and not facts.is_alive:
            del self._children[entry.attempt.path]
            process = entry.process()
            was_it = process is None or process.pid == child.pid
            # With code 0 and unclaimed, it has left the attempt to another process, and that was killed at once.
            if entry.exit() is None and was_it and (process is not None or child.returncode != 0):
                entry.write_exit(child.returncode)
            return
        if child is None and not facts.is_claimed and not facts.is_alive:
            # The scheduler that was to start it is gone. If it has done so, one of the two processes will leave.
            if facts.stop is None:
                self._spawn(entry, start)
            else:
                _close(entry)

    def _begin(self, entry: _Entry, slots: Sequence[str]) -> None:
        """Give a job its slots and start it."""
        words = tuple(self._words(entry))
        start = Start(tuple(slots), words, time.time(), uuid.uuid4().hex, _record_mark(entry.run_dir))
        entry.attempt.write_start(start)
        self._spawn(entry, start)

    def _words(self, entry: _Entry) -> Iterator[str]:
        """Yield the command line of an attempt."""
        request, document = entry.document.request, entry.document
        if request.backend is not None:
            yield from ("--backend", request.backend)
        if entry.request.checkpoint is not None:
            yield from ("--resume", str(entry.run_dir.absolute() / entry.request.checkpoint))
            return
        if document.is_adopted or (entry.request.resume and checkpoint_directories(entry.run_dir)):
            yield from ("--resume", str(entry.run_dir.absolute()))
            return
        for flag, value in (("--task", request.task), ("--model", request.model)):
            if value is not None:
                yield from (flag, value)
        yield from ("--config", str(entry.files.settings.absolute()), "--run-dir", str(entry.run_dir.absolute()))
        if entry.request.resume:
            yield "--resume"  # of a run without a checkpoint: it starts from the beginning

    def _spawn(self, entry: _Entry, start: Start) -> None:
        """Start the process of an attempt. It owes nothing to this one, and outlives it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        output = os.open(entry.attempt.output, flags, 0o600)
        try:
            child = subprocess.Popen(
                # Safe path: modules are found by their own names, not by those of the files beside the script.
                [sys.executable, "-P", str(PROCESS), str(entry.attempt.path.absolute()), str(self._program)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment_of(start.slots), JOB_MARK: start.mark},
                start_new_session=True,
            )
        finally:
            os.close(output)
        self._children[entry.attempt.path] = child
        # It is waited for at once when it ends, whatever this process does then: it never stays a zombie.
        threading.Thread(target=child.wait, name=f"waits for job {entry.document.id}", daemon=True).start()


def directory_name_of(name: str) -> str:
    """Return the name of a run directory for what a user calls a run: signs that are none of a name become `-`.

    Raises:
        UserError: nothing is left, or a run's own parts have such a name.

    Example:
        >>> directory_name_of("My first run (lr=1e-3)")
        'My-first-run-lr-1e-3'
    """
    kept = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name.strip()[: 4 * LONGEST_NAME])
    while "--" in kept:
        kept = kept.replace("--", "-")
    kept = kept.strip(".-")[:LONGEST_NAME].encode("utf-8", "ignore")[:LONGEST_NAME_BYTES].decode("utf-8", "ignore")
    kept = kept.strip(".-")
    if not kept or is_checkpoint_name(kept) or is_branch_name(kept) or kept in _NEVER_NAMES:
        raise UserError(f"name {name!r}: a run cannot be called so; use letters and digits")
    return kept


def _in_order(entries: Iterable[_Entry]) -> list[_Entry]:
    return sorted(entries, key=lambda entry: (-entry.priority, entry.request.place))


def _check_priority(priority: int) -> None:
    if not -LARGEST_PRIORITY <= priority <= LARGEST_PRIORITY:
        raise UserError(f"priority must be from {-LARGEST_PRIORITY} to {LARGEST_PRIORITY}, got {priority}")


def _check_checkpoint(run_dir: Path, name: str, checkpoint: str | None) -> None:
    """Refuse a checkpoint that a run does not have.

    Raises:
        JobStateError: names those that it has.
    """
    if checkpoint is None:
        return
    there = [path.name for path in checkpoint_directories(run_dir)]
    if checkpoint not in there:
        more = ", …" if len(there) > _LISTED else ""
        listed = f"{', '.join(there[:_LISTED])}{more}" if there else Message("none")
        raise JobStateError(
            Message(
                "{name} has no checkpoint '{checkpoint}'; there is {listed}",
                name=name, checkpoint=checkpoint, listed=listed,
            )
        )  # fmt: skip


def _stop_other(run_id: str, run_dir: Path | None, at_once: bool) -> None:
    """Stop a run that was started without a server, as its terminal or another tool would."""
    if run_dir is None:
        raise UnknownJobError(f"there is no job {run_id}")
    owner = owner_of(run_dir) if is_locked(run_dir) else None
    if owner is None:
        raise JobStateError(Message("run {name} does not run; there is nothing to stop", name=run_dir.name))
    number = signal.SIGKILL if at_once else signal.SIGTERM
    try:
        was_sent = owner.identity.send(number)
    except PermissionError as error:
        raise JobStateError(
            Message("run {name} belongs to another user, who alone can stop it", name=run_dir.name)
        ) from error
    if not was_sent:
        raise JobStateError(
            Message(
                "run {name}: its process (pid {pid}) runs on another computer, or cannot be identified; stop it there",
                name=run_dir.name,
                pid=owner.pid,
            )
        )


def _close(entry: _Entry) -> None:
    """End an attempt that was to stop before any process has claimed it: one that is on its way leaves."""
    lock = RunLock.take(entry.attempt.path)
    if lock is None:
        return  # it has just come
    try:
        if entry.process() is None:
            entry.write_exit(EXIT_INTERRUPTED)
    finally:
        lock.release()


def _kill(entry: _Entry) -> None:
    """Kill all processes of an attempt, ranks and data loaders included."""
    start, process = entry.start(), entry.process()
    if start is None:
        return
    if sys.platform == "linux":
        kill_all_with(JOB_MARK, start.mark)
    elif process is not None and entry.attempt.is_held():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the lock says that this pid is still its own
