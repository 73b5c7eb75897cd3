"""Download of a job's run directory from its datastore, so that every tool reads it like a run of this machine.

A file is written under a hidden name, checked against its size and MD5, and renamed. Checkpoints and `final_model/`
get their names as whole directories. A file that is here unchanged is not fetched again, so an interrupted download
continues. Whatever a kill leaves at any instant, the next download repairs: half a file, half a directory, or a
directory that was moved aside to be replaced.

The bytes of a file come by the storage SDK's own download. The next layer up, `jobs.download` of azure-ai-ml (1.35),
does not serve: it refuses a job that still runs, fetches all checkpoints with the model, holds every file in memory,
writes it under its final name without comparing a checksum, and starts from zero each time.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from training.azure.follow.sweep import best_run
from training.azure.service.errors import service_refusals
from training.azure.service.job_file import JOB_NAME, JobHandle
from training.checkpoints.manifest import check_files, read_manifest
from training.checkpoints.run_directory import (
    CONFIG_NAME,
    FINAL_NAME,
    MODEL_DIRECTORY,
    RunDirectory,
    asides_of_kills,
)
from training.errors import CheckpointError, UserError
from training.machine.units import as_size
from training.record.reporter import LOG_NAME, REPORT_NAME
from training.storage.atomic import delete, put_back, put_in_place, write_atomically
from training.storage.checksums import check_checksums
from training.storage.json_files import DamagedFileError, read_json

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient
    from tqdm import tqdm

    from training.azure.service.workspace import Workspace


# -- what the datastore holds ------------------------------------------------------------------------------------------

What = Literal["final", "all"]

FINAL = (LOG_NAME, REPORT_NAME, CONFIG_NAME, FINAL_NAME, MODEL_DIRECTORY)
"""Files of the record and the finished model, in both forms."""
WHOLE = ("checkpoint", MODEL_DIRECTORY)
"""Beginning of the names of directories that are there whole or not at all."""


@dataclass(frozen=True)
class StoredFile:
    """One file of a run directory in a datastore."""

    name: str
    """Path relative to the run directory, with slashes."""
    size: int
    """Size in bytes."""
    etag: str
    """ETag without quotes, which only some answers of the storage have (`plain_etag`)."""
    md5: bytes | None
    """MD5; None: the storage has none, as for files that were uploaded in blocks."""

    @property
    def top(self) -> str:
        """Name of the file or of its directory in the run directory."""
        return PurePosixPath(self.name).parts[0]

    @property
    def is_of_whole_directory(self) -> bool:
        """True if it belongs to a directory that must never be there in part."""
        return "/" in self.name and self.top.startswith(WHOLE)


def stored_files(container: ContainerClient, path: str) -> list[StoredFile]:
    """List all files below `path`, by name.

    Raises:
        UserError: a name leads out of the run directory.
        azure.core.exceptions.AzureError: the storage refuses or cannot be reached.
    """
    root = path.rstrip("/") + "/"
    found: list[StoredFile] = []
    for blob in container.list_blobs(name_starts_with=root, include=["metadata"]):
        name = blob.name.removeprefix(root)
        if name and not _is_directory(blob):
            _refuse_escape(root, name)
            md5 = blob.content_settings.content_md5
            found.append(StoredFile(name, int(blob.size), plain_etag(blob.etag), bytes(md5) if md5 else None))
    return sorted(_without_directories(root, found), key=lambda file: file.name)


def plain_etag(etag: object) -> str:
    """Return an ETag in the one form in which two can be compared."""
    return str(etag).strip('"')


def wanted(files: Iterable[StoredFile], what: What) -> list[StoredFile]:
    """Select the files to download. Hidden files are half-written or belong to the job's machine; `azure_job.json` is
    written on every machine by itself."""
    visible = [file for file in files if not any(part.startswith(".") for part in PurePosixPath(file.name).parts)]
    visible = [file for file in visible if file.name != JOB_NAME]
    return visible if what == "all" else [file for file in visible if file.top in FINAL]


def has_final_model(files: Iterable[StoredFile]) -> bool:
    """Return True if the run has come to its end."""
    return any(file.top in (FINAL_NAME, MODEL_DIRECTORY) for file in files)


def _is_directory(blob: Any) -> bool:
    """Return True for the empty blobs by which a mounted datastore marks directories."""
    mark = (blob.metadata or {}).get("hdi_isfolder", "")
    return str(mark).lower() == "true" or str(blob.name).endswith("/")


def _without_directories(root: str, files: list[StoredFile]) -> list[StoredFile]:
    """Leave out empty blobs that have a directory's name, whatever made them."""
    directories = {str(parent) for file in files for parent in PurePosixPath(file.name).parents}
    for file in files:
        if file.name in directories and file.size:
            raise UserError(f"{root}: the datastore holds {file.name!r} there as file and as directory; nothing done")
    return [file for file in files if file.name not in directories]


def _refuse_escape(root: str, name: str) -> None:
    path = PurePosixPath(name)
    is_odd = "\\" in name or ":" in name or any(ord(sign) < ord(" ") for sign in name)
    if path.is_absolute() or is_odd or any(part in ("..", ".", "") for part in name.split("/")):
        raise UserError(
            f"{root}: the datastore holds {name!r} there, which is not a name of a file of a run; nothing done"
        )


# -- the download ------------------------------------------------------------------------------------------------------

RECEIPTS_NAME = ".azure_download.json"
"""List of what was fetched, which identifies files of which the storage has no MD5."""
HALF = ".download"
"""End of the hidden names under which a file or a directory is fetched."""
NOTED_AT_ONCE = 1_000_000
"""Size in bytes from which a file without an MD5 in the storage is noted at once: after a kill it would be fetched
again."""
ATTEMPTS = 3
"""Attempts at what the job replaces while it is read."""
LONGEST_NAME = 120
"""Characters of a file's name in an error message."""


def download_run(workspace: Workspace, handle: JobHandle, run_dir: Path, what: What = "final") -> Path:
    """Download the record and the final model (`final`), or everything (`all`). The caller holds `run_dir`.

    It may be called again, also after a failure and for a job that still runs: only what is new is fetched.

    Returns:
        The directory that holds the run now: `run_dir`, or for a sweep the best trial's in it.

    Raises:
        UserError: `run_dir` holds another run, the disk is full, the service refuses, or there is nothing.
    """
    refuse_another_run(handle, run_dir)
    if handle.path is None:
        handle = best_run(workspace, handle)
        return download_run(workspace, handle, run_dir / handle.job, what)
    with service_refusals(f"downloading job {handle.job}"):
        container = workspace.container(handle.datastore)
        stored = stored_files(container, handle.path)
        files = wanted(stored, what)
        if not files:
            raise UserError(f"job {handle.job} has written nothing yet (datastore {handle.datastore}, {handle.path})")
        run_dir.mkdir(parents=True, exist_ok=True)
        if not (run_dir / JOB_NAME).exists():
            _refuse_foreign_files(run_dir, files)
            handle.write(run_dir)
        _Download(container, handle.path, run_dir).bring(files)
    if not has_final_model(stored):
        print(f"job {handle.job} has no final model yet: its record is here", flush=True)
    return run_dir


def refuse_another_run(handle: JobHandle, run_dir: Path) -> None:
    """Raise UserError where `run_dir` holds a run that is not the job's."""
    own = JobHandle.read(run_dir)
    if own is not None and (own.job == handle.job or own == _with_job_of(handle, own)):
        return
    directory = RunDirectory(run_dir, claim=False)
    if run_dir.exists() and not run_dir.is_dir():
        raise UserError(f"{run_dir}: this is a file; give a directory")
    config = [CONFIG_NAME] if (run_dir / CONFIG_NAME).exists() else []  # a file of anybody, which the run would replace
    holds = [f"the job {own.job}"] if own is not None else directory.holds_run() or config
    if holds:
        raise UserError(
            f"{run_dir}: it holds another run ({', '.join(holds)}), which stays as it is; give another directory for "
            f"job {handle.job}"
        )


def _refuse_foreign_files(run_dir: Path, files: list[StoredFile]) -> None:
    """Raise UserError where a directory without a run holds files that the run would replace."""
    there = [name for name in dict.fromkeys(file.top for file in files) if os.path.lexists(run_dir / name)]
    if there:
        raise UserError(
            f"{run_dir}: it holds {', '.join(there[:3])}, which is not of this run and stays as it is; give another "
            "directory"
        )


def _with_job_of(handle: JobHandle, own: JobHandle) -> JobHandle:
    """Return `own` if both are one run: a job that continued another's run writes to the same path of the datastore."""
    if handle.path is None or (handle.workspace, handle.datastore, handle.path) != (
        own.workspace,
        own.datastore,
        own.path,
    ):
        return handle
    return own


class _Download:
    def __init__(self, container: ContainerClient, path: str, run_dir: Path) -> None:
        self._container, self._path, self._run_dir = container, path.rstrip("/"), run_dir
        self._receipts = _read_receipts(run_dir)
        self._bar: tqdm[Any] | None = None
        self._faults: list[str] = []

    def bring(self, files: list[StoredFile]) -> None:
        """Download all files, and report it."""
        with self._disk_refusals():
            self._mend(files)
            missing = self._missing(files)
            self._check_room(missing)
            num_bytes = sum(file.size for file in missing)
            if missing:
                print(f"downloading {_count(missing)} ({as_size(num_bytes)}) into {self._run_dir}", flush=True)
            self._bar = _progress_bar(num_bytes)
            try:
                for top, group in groupby(missing, key=lambda file: file.top):
                    members = list(group)
                    if members[0].is_of_whole_directory:
                        self._bring_directory(top, members)
                    else:
                        for file in members:
                            self._fetch(file, self._run_dir / file.name)
            except BaseException:
                with contextlib.suppress(OSError):  # the error that stopped it is the one to be reported
                    self._write_receipts()
                raise
            finally:
                self._bar.close()
            self._write_receipts()
        here, before = [file for file in files if (self._run_dir / file.name).exists()], len(files) - len(missing)
        print(
            f"{self._run_dir}: {_count(here)} of the run here" + (f", {before} were already" if before else ""),
            flush=True,
        )
        for fault in self._faults:
            print(f"warning: as the datastore has it, {fault}", flush=True)
        if any(fault.startswith(MODEL_DIRECTORY) for fault in self._faults):
            raise UserError(
                f"{self._run_dir}: {MODEL_DIRECTORY}/ is damaged in the datastore and was not brought here; use "
                f"{FINAL_NAME} or a checkpoint"
            )

    @contextlib.contextmanager
    def _disk_refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.strerror is None:
                raise  # not an error of the disk
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            name = "" if is_full or error.filename is None else f"{Path(error.filename).name[:LONGEST_NAME]}: "
            fix = "make room, and give the same command again" if is_full else "clear it, or give another directory"
            raise UserError(
                f"{self._run_dir}: the disk refuses ({name}{error.strerror}); what came through stays: {fix}"
            ) from error

    def _mend(self, files: list[StoredFile]) -> None:
        """Remove what a killed download has left, unless this one continues it."""
        for aside in asides_of_kills(self._run_dir):
            put_back(aside)
        wanted_again = {
            self._half(self._run_dir / (file.top if file.is_of_whole_directory else file.name)) for file in files
        }
        for folder, directories, names in os.walk(self._run_dir):
            halves = [name for name in (*directories, *names) if name.startswith(".") and name.endswith(HALF)]
            for half in (Path(folder, name) for name in halves):
                if half not in wanted_again:
                    delete(half)
            directories[:] = [name for name in directories if not name.startswith((".", *WHOLE))]

    def _half(self, path: Path) -> Path:
        """Return the path of a file or directory until it is whole."""
        return path.with_name(f".{path.name}{HALF}")

    def _missing(self, files: list[StoredFile]) -> list[StoredFile]:
        missing: list[StoredFile] = []
        for _, group in groupby(files, key=lambda file: file.top):
            members = list(group)
            absent = [file for file in members if not self._is_here(file, self._run_dir / file.name)]
            # A whole directory is replaced as such.
            missing += members if absent and members[0].is_of_whole_directory else absent
        return missing

    def _bring_directory(self, name: str, files: list[StoredFile]) -> None:
        """Download a directory, whole and of one state: what the job replaces meanwhile is fetched again."""
        from azure.core.exceptions import ResourceNotFoundError

        target = self._run_dir / name
        half = self._half(target)
        for _ in range(ATTEMPTS):
            wanted = {half / Path(file.name).relative_to(name): file for file in files}
            for path in [path for path in half.rglob("*") if path.is_file() and path not in wanted]:
                path.unlink()  # of an older state of the directory
            with contextlib.suppress(ResourceNotFoundError):  # the next listing shows what there is now
                for path, file in wanted.items():
                    self._fetch(file, path)
            files = self._stored_now(name)
            if {half / Path(file.name).relative_to(name): file.etag for file in files} == self._fetched(half):
                why = "was deleted by the job meanwhile"  # as checkpoints are that are not kept
                break
        else:
            files, why = [], "is being replaced by the job: it is not downloaded this time"
        if not files:
            delete(half)
            self._say(f"{name} {why}")
            return
        if (fault := self._fault_of(half, name)) is not None:
            self._faults.append(fault)
            if name == MODEL_DIRECTORY:
                delete(half)
                return
        put_in_place(half, target)
        for file in files:
            self._receipts.pop(self._key(half / Path(file.name).relative_to(name)), None)
            self._note(file.etag, self._run_dir / file.name)
        self._write_receipts()

    def _fault_of(self, half: Path, name: str) -> str | None:
        """Return what the checksums of a directory, which its run wrote, find wrong with it; None: it is whole."""
        try:
            if name == MODEL_DIRECTORY:
                check_checksums(half)
            else:
                check_files(half, read_manifest(half))
        except CheckpointError as error:
            return str(error).replace(str(half), name)
        return None

    def _stored_now(self, name: str) -> list[StoredFile]:
        found = stored_files(self._container, f"{self._path}/{name}")
        return [replace(file, name=f"{name}/{file.name}") for file in found]

    def _fetched(self, half: Path) -> dict[Path, object]:
        """Return the ETags of a directory's files as they were fetched."""
        files = [path for path in half.rglob("*") if path.is_file()]
        return {path: self._receipts.get(self._key(path), [None])[0] for path in files}

    def _fetch(self, file: StoredFile, target: Path) -> None:
        """Download one file, unless it is there already."""
        from azure.core.exceptions import ResourceModifiedError

        assert self._bar is not None
        if self._is_here(file, target):
            self._bar.update(file.size)
            self._note(file.etag, target)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._half(target)
        before = self._bar.n
        for attempt in range(ATTEMPTS):
            try:
                etag = self._stream(file, temporary)
                break
            except (ResourceModifiedError, _DamagedError) as error:
                self._bar.update(before - self._bar.n)
                if attempt == ATTEMPTS - 1:
                    raise UserError(
                        f"{file.name}: it did not come through whole in {ATTEMPTS} attempts ({_why(error)}); give the "
                        "same command again"
                    ) from error
        temporary.replace(target)
        self._note(etag, target)
        if file.md5 is None and file.size >= NOTED_AT_ONCE:
            self._write_receipts()

    def _stream(self, file: StoredFile, temporary: Path) -> str:
        """Write the blob as it is now into a file; return its ETag."""
        assert self._bar is not None
        bar, before = self._bar, self._bar.n
        # One connection: with several the SDK's threads would hold up Ctrl-C for as long as one of them is silent.
        stream = self._container.get_blob_client(f"{self._path}/{file.name}").download_blob(
            max_concurrency=1, progress_hook=lambda received, _: bar.update(before + received - bar.n)
        )
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as out:  # "x" follows no link
            size = stream.readinto(out)
        expected = stream.properties.content_settings.content_md5
        if size != stream.properties.size or (expected and bytes(expected) != _md5_of(temporary)):
            raise _DamagedError(f"{size} of {stream.properties.size} bytes came, or others than were stored")
        return plain_etag(stream.properties.etag)

    def _is_here(self, file: StoredFile, path: Path) -> bool:
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        if status.st_size != file.size:
            return False
        if self._receipts.get(self._key(path)) == [file.etag, status.st_size, status.st_mtime_ns]:
            return True
        return file.md5 is not None and _md5_of(path) == file.md5

    def _note(self, etag: str, path: Path) -> None:
        status = path.stat()
        self._receipts[self._key(path)] = [etag, status.st_size, status.st_mtime_ns]

    def _key(self, path: Path) -> str:
        return path.relative_to(self._run_dir).as_posix()

    def _write_receipts(self) -> None:
        kept = {key: value for key, value in self._receipts.items() if (self._run_dir / key).exists()}
        write_atomically(self._run_dir / RECEIPTS_NAME, json.dumps(kept).encode(), durable=False)

    def _check_room(self, files: list[StoredFile]) -> None:
        halves = {self._half(self._run_dir / file.top) for file in files if file.is_of_whole_directory}
        here = sum(path.stat().st_size for half in halves for path in half.rglob("*") if path.is_file())
        needed, free = sum(file.size for file in files) - here, shutil.disk_usage(self._run_dir).free
        if needed > free:
            raise UserError(
                f"{self._run_dir}: {as_size(needed)} are to come and the disk has {as_size(free)} left; make room, or "
                "give another directory"
            )

    def _say(self, message: str) -> None:
        assert self._bar is not None
        self._bar.write(message)


class _DamagedError(Exception):
    """The bytes that came are not those that were stored."""


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, _DamagedError) else "the job replaces it while it is read"


def _count(files: list[StoredFile]) -> str:
    return "1 file" if len(files) == 1 else f"{len(files)} files"


def _md5_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()


def _read_receipts(run_dir: Path) -> dict[str, list[object]]:
    try:
        receipts = read_json(run_dir / RECEIPTS_NAME)
    except (OSError, DamagedFileError):
        return {}  # files are compared by MD5, or fetched again
    if not isinstance(receipts, dict):
        return {}
    return {key: value for key, value in receipts.items() if isinstance(value, list) and len(value) == 3}


def _progress_bar(num_bytes: int) -> tqdm[Any]:
    from tqdm import tqdm

    return tqdm(
        total=num_bytes, unit="B", unit_scale=True, desc="download", leave=False, disable=not sys.stderr.isatty()
    )
