"""The directory of a job: all that anybody knows about it, so that any process can go on with it. No torch.

    <root>/.server/jobs/<id>/
        job.json           what was asked for; never changed
        settings.yaml      its settings, as `--config` reads them
        priority.json      only where somebody has changed the priority
        attempts/<n>/      the n-th start of it: the first, then one for each time that it was resumed
            request.json   it waits for a slot, and since when
            start.json     it may start: its slots and its command line
            .lock          held by the process for as long as it lives; with it the process claims the attempt
            process.json   which process that is, written by it
            output.log     what it prints; output.1.log: what it printed before that
            stop.json      somebody asked it to stop
            exit.json      how it ended

Each file is written whole, by one rename, and their order here is their order in time. So a kill between any two of
them leaves a state that has a name (`training.experiments.jobs.states`), from which the next scheduler goes on. A job
begins to exist by the rename of its finished directory.

The id of a job is the id of its run directory, which follows from the path of that below the root.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from training.checkpoints.run_lock import is_locked
from training.errors import UserError
from training.experiments.store.identity import SERVER_DIRECTORY, is_run_id
from training.machine.processes import ProcessIdentity
from training.storage.atomic import replacing_directory, write_atomically
from training.storage.json_files import read_as

JOB_MARK = "APT_TRAINER_JOB"
"""Environment variable by which all processes of one attempt can be found, whatever session they are in."""

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

T = TypeVar("T")


@dataclass(frozen=True)
class JobRequest:
    """What is asked for: a run with these settings."""

    name: str
    """What the user calls it; the run directory is named after it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key -> value, without the run directory, which follows from the name."""
    backend: str | None = None
    task: str | None = None
    model: str | None = None
    priority: int = 0
    """Jobs of a higher one start earlier."""
    slots: int = 1
    """GPUs that it needs; on a machine without GPUs, slots of the CPU."""
    key: str | None = None
    """The same key again means the same job again, not a second one."""


@dataclass(frozen=True)
class JobDocument:
    """Content of `job.json`."""

    id: str
    path: str
    """The run directory below the root, with `/` between the parts."""
    created_at: float
    """Unix seconds."""
    request: JobRequest
    is_adopted: bool = False
    """The run was begun without a server, and the job only goes on with it."""


@dataclass(frozen=True)
class AttemptRequest:
    """Content of `request.json`."""

    place: int
    """Order in the queue: the lower one was there earlier."""
    queued_at: float
    resume: bool
    checkpoint: str | None = None
    """Name of the checkpoint in the run directory that it goes on from; None: the newest good one."""


@dataclass(frozen=True)
class Start:
    """Content of `start.json`."""

    slots: tuple[str, ...]
    """Names of the slots that it occupies: a GPU's is its UUID."""
    words: tuple[str, ...]
    """Command line of the program."""
    started_at: float
    mark: str
    """Value of `JOB_MARK` in every process of the attempt; no other attempt has it."""
    record: tuple[int, int] | None
    """Inode and bytes of the run's event log then, by which it is seen to grow; None: there was none."""


@dataclass(frozen=True)
class Stop:
    """Content of `stop.json`."""

    asked_at: float
    at_once: bool


@dataclass(frozen=True)
class Exit:
    """Content of `exit.json`."""

    code: int
    """Exit code; negative: the number of the signal that killed it."""
    ended_at: float


@dataclass(frozen=True)
class _Priority:
    priority: int


class AttemptFiles:
    """The files of one start of a job.

    Args:
        path: `attempts/<n>`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = int(path.name)
        self.output = path / "output.log"

    def request(self) -> AttemptRequest | None:
        """Return when and why it was queued."""
        return _read(self.path / "request.json", AttemptRequest)

    def write_request(self, request: AttemptRequest) -> None:
        """Queue it."""
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self.path / "request.json", request)

    def start(self) -> Start | None:
        """Return what it was given to start with; None: it waits."""
        return _read(self.path / "start.json", Start)

    def write_start(self, start: Start) -> None:
        """Give it its slots: from now on its process may be started."""
        _write(self.path / "start.json", start)

    def process(self) -> ProcessIdentity | None:
        """Return the process that claimed it; None: none has yet."""
        return _read(self.path / "process.json", ProcessIdentity)

    def write_process(self, process: ProcessIdentity) -> None:
        """Write down which process claimed it: only that process itself does so."""
        _write(self.path / "process.json", process)

    def stop(self) -> Stop | None:
        """Return how it was asked to stop; None: nobody has."""
        return _read(self.path / "stop.json", Stop)

    def write_stop(self, stop: Stop) -> None:
        """Ask it to stop: its process looks for this file."""
        _write(self.path / "stop.json", stop)

    def exit(self) -> Exit | None:
        """Return how it ended; None: it has not, or nobody could write it down."""
        return _read(self.path / "exit.json", Exit)

    def write_exit(self, ending: Exit) -> None:
        """Write down how it ended."""
        _write(self.path / "exit.json", ending)

    def is_held(self) -> bool:
        """Return whether its process, or a child that it forked, lives: the operating system knows."""
        return is_locked(self.path)

    def last_line(self) -> str:
        """Return the last line that it printed; empty: there is none."""
        try:
            with self.output.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - 4096))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class JobFiles:
    """The files of one job.

    Args:
        path: `<root>/.server/jobs/<id>`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "settings.yaml"
        self._attempts = path / "attempts"

    @classmethod
    def create(
        cls, path: Path, document: JobDocument, settings_yaml: str, first: AttemptRequest, durable: bool = True
    ) -> JobFiles:
        """Make a job's directory; it is there whole or not at all.

        Args:
            path: nothing is there yet.
            document: what was asked for.
            settings_yaml: text of `settings.yaml`.
            first: the first attempt, which is queued with it.
            durable: it survives a power cut.
        """
        with replacing_directory(path) as made:
            made.chmod(0o700)
            files = cls(made)
            _write(made / "job.json", document)
            files.settings.write_text(settings_yaml, encoding="utf-8")
            files.attempt(1).write_request(first)
        return cls(path)

    def document(self) -> JobDocument:
        """Return what was asked for.

        Raises:
            UserError: the file is missing or damaged.
        """
        found = _read(self.path / "job.json", JobDocument)
        if found is None or found.id != self.path.name:
            raise UserError(f"{self.path}: it holds no job of this name; delete it")
        return found

    def priority(self) -> int | None:
        """Return the priority that somebody has set since the job was asked for; None: nobody has."""
        found = _read(self.path / "priority.json", _Priority)
        return None if found is None else found.priority

    def write_priority(self, priority: int) -> None:
        """Change the priority."""
        _write(self.path / "priority.json", _Priority(priority))

    def attempt(self, number: int) -> AttemptFiles:
        """Return the files of an attempt, whether or not it has any."""
        return AttemptFiles(self._attempts / str(number))

    def attempts(self) -> list[AttemptFiles]:
        """Return the attempts that were queued, in order."""
        try:
            names = [path.name for path in self._attempts.iterdir()]
        except FileNotFoundError:
            return []
        numbers = sorted(int(name) for name in names if _NUMBER.fullmatch(name))
        # One without its request was being queued when its writer was killed; its number is used again.
        return [attempt for number in numbers if (attempt := self.attempt(number)).request() is not None]


def jobs_directory(root: Path) -> Path:
    """Return the directory in which the jobs of a root lie."""
    return root / SERVER_DIRECTORY / "jobs"


def job_directories(root: Path) -> Iterator[Path]:
    """Yield the directories of all jobs of a root."""
    try:
        found = sorted(jobs_directory(root).iterdir())
    except FileNotFoundError:
        return
    yield from (path for path in found if is_run_id(path.name))


def _read(path: Path, declared: type[T]) -> T | None:
    try:
        return read_as(path, declared)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from error


def as_json(document: Any) -> bytes:
    """Return a dataclass as it is written.

    Raises:
        TypeError: it holds something that JSON has not.
        ValueError: it holds a number that is not finite.
    """
    return json.dumps(asdict(document), ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")


def _write(path: Path, document: Any) -> None:
    write_atomically(path, as_json(document), durable=True)
