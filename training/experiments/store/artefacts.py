"""Artefacts of a run: what it has made, by name, kind, size and SHA-256, and whether it is still there and unchanged.

Nothing is copied: an artefact is where the run, or whoever logged it, has put it. No torch.

    checkpoint, model      directories with checksums of their own: these say what belongs in them
    model, snapshot, …     files that parts of the program declare (`training.storage.run_files`)
    picture                pictures and films in the run directory
    certificate            what the run has proved, in its report
    logged                 anything that `log_artifact` of the Python API named, wherever it lies

A look reads sizes and times alone; content is read where a checksum is asked for, and remembered in the index by size
and time. The SHA-256 of a directory is that of its own list of checksums (`manifest.json`, `checksums.json`), which
stands for every byte in it; without one, of the list that `_list_of_checksums` makes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from training.checkpoints.manifest import BEST_NAME, check_files, checkpoint_directories, read_manifest
from training.checkpoints.manifest import NAME as MANIFEST_NAME
from training.errors import CheckpointError, UserError, did_you_mean, printable
from training.record.log import REPORT_NAME, read_report
from training.record.schema import number
from training.storage.atomic import write_atomically
from training.storage.checksums import NAME as CHECKSUMS_NAME
from training.storage.checksums import check_checksums
from training.storage.json_files import open_regular, read_as
from training.storage.run_files import RunFile, run_files

LOGGED_NAME = "artifacts.json"
RUN_FILES = (RunFile(LOGGED_NAME),)
SCHEMA_VERSION = 1
CERTIFICATES = ("certificate", "packing", "merge", "stop")
"""Keys of a report under which a run says what it has proved: loss mask, packing, merged adapter, ends of answers."""
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".svg", ".gif", ".webp", ".mp4"})
LOGGED = "logged"
_PICTURE_LEVELS = 2
"""Levels of folders below the run directory in which pictures are looked for."""


class Condition(StrEnum):
    """What became of an artefact since its checksum was taken."""

    UNCHANGED = "unchanged"
    UNCHECKED = "unchecked"
    """It is there; its content would have to be read to say more."""
    CHANGED = "changed"
    MISSING = "missing"


@dataclass(frozen=True)
class RunArtefact:
    """One thing that a run has made."""

    name: str
    """Path below the run directory, with `/` between its parts, or the name that it was logged by."""
    kind: str
    path: Path | None
    """None: it stands in the report."""
    bytes: int | None
    """Size with all files; None: it is missing."""
    modified_at: float | None
    """Unix seconds of the last change of any of its files."""
    sha256: str | None
    """None: not known without reading it."""
    condition: Condition
    detail: str = ""
    """What is wrong with it; empty: nothing."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, without the path, which is this machine's."""
        data = asdict(self)
        del data["path"]
        return data


class Remembered(NamedTuple):
    """A checksum that was taken earlier, and what the file was like then."""

    bytes: int
    mtime_ns: int
    """Time of the last change, in nanoseconds; of a directory, the latest of its files'."""
    sha256: str
    taken_at: float
    """Unix seconds."""


class _Seen(NamedTuple):
    bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class _Logged:
    name: str
    path: str
    """Relative to the run directory, or absolute."""
    bytes: int
    mtime_ns: int
    sha256: str
    time: float
    kind: str = LOGGED


@dataclass(frozen=True)
class _LoggedFile:
    schema_version: int
    artifacts: tuple[_Logged, ...]


# -- the list ------------------------------------------------------------------------------------------------------


def artefacts_of(run_dir: Path, remembered: Mapping[str, Remembered] | None = None) -> list[RunArtefact]:
    """Return a run's artefacts, by name. Sizes and times are looked at; no large file is read.

    Args:
        run_dir: directory of the run.
        remembered: checksums of the index, by name.

    Raises:
        UserError: the list of logged artefacts cannot be read.
    """
    known = remembered or {}
    found: dict[str, RunArtefact] = {}
    for name, kind, path in _places(run_dir):
        found.setdefault(name, _looked_at(name, kind, path, known.get(name), is_logged=False))
    for logged in read_logged(run_dir):
        baseline = Remembered(logged.bytes, logged.mtime_ns, logged.sha256, logged.time)
        path = run_dir / logged.path  # an absolute one stays as it is
        found[logged.name] = _looked_at(logged.name, logged.kind, path, baseline, is_logged=True)
    for name, text in _certificates(run_dir):
        digest = hashlib.sha256(text).hexdigest()
        found[name] = RunArtefact(name, "certificate", None, len(text), None, digest, Condition.UNCHANGED)
    return [found[name] for name in sorted(found)]


def artefact_of(run_dir: Path, name: str, remembered: Mapping[str, Remembered] | None = None) -> RunArtefact:
    """Return one artefact by its name.

    Raises:
        UserError: the run has none of this name.
    """
    found = {artefact.name: artefact for artefact in artefacts_of(run_dir, remembered)}
    if name not in found:
        raise UserError(f"{run_dir}: no artefact {name!r}{did_you_mean(name, found)}; it has {len(found)} others")
    return found[name]


def verified(run_dir: Path, artefact: RunArtefact, remembered: Remembered | None = None) -> RunArtefact:
    """Read an artefact whole and say whether it is what its checksum says. One without a checksum gets one.

    Args:
        run_dir: directory of the run.
        artefact: as `artefacts_of` gave it.
        remembered: the index's checksum of it. What the run itself has written since then is no change.

    Raises:
        UserError: it may not be read.
    """
    if artefact.path is None or artefact.condition is Condition.MISSING:
        return artefact
    path = artefact.path
    try:
        if (fault := _fault_of_sealed(path)) is not None:
            changed = Condition.CHANGED if fault else Condition.UNCHANGED
            detail = fault.replace(printable(path), artefact.name)  # a reader elsewhere knows it by its name
            return replace(artefact, sha256=_sha256_of(path), condition=changed, detail=detail)
        digest = _sha256_of(path)
    except FileNotFoundError:
        return _missing(artefact.name, artefact.kind, path, artefact.sha256)
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from error
    expected = next((logged.sha256 for logged in read_logged(run_dir) if logged.name == artefact.name), None)
    if expected is None and remembered is not None and not _at_work_since(run_dir, remembered.taken_at):
        expected = remembered.sha256
    if expected is not None and expected != digest:
        detail = f"its content is no longer that of the SHA-256 {expected[:12]}…"
        return replace(artefact, sha256=digest, condition=Condition.CHANGED, detail=detail)
    return replace(artefact, sha256=digest, condition=Condition.UNCHANGED, detail="")


def remember(artefact: RunArtefact, now: float) -> Remembered | None:
    """Return what the index keeps of an artefact whose checksum is known; None: there is nothing to keep."""
    if artefact.path is None or artefact.sha256 is None or artefact.condition is not Condition.UNCHANGED:
        return None
    seen = _seen(artefact.path)
    return Remembered(seen.bytes, seen.mtime_ns, artefact.sha256, now) if seen is not None else None


def _places(run_dir: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield (name, kind, path) of what lies in the run directory."""
    for path in checkpoint_directories(run_dir):
        yield path.name, "best checkpoint" if path.name == BEST_NAME else "checkpoint", path
    inner: set[Path] = set()
    for file in run_files():
        for path in file.found_in(run_dir) if file.artefact else ():
            inner.add(path)
            if path.is_dir() and not _has_checksums(path) and file.artefact != "model":
                for part in sorted(path.rglob("*")):
                    if part.is_file() and not part.name.startswith("."):
                        yield part.relative_to(run_dir).as_posix(), file.artefact, part
            else:
                yield path.name, file.artefact, path
    for path in _pictures(run_dir, _PICTURE_LEVELS):
        if not any(path.is_relative_to(other) for other in inner):
            yield path.relative_to(run_dir).as_posix(), "picture", path


def _pictures(folder: Path, levels: int) -> Iterator[Path]:
    checkpoints = set(checkpoint_directories(folder))
    try:
        entries = sorted(folder.iterdir())
    except OSError:  # deleted this very moment, or closed to this user: nothing of it can be listed
        return
    for path in entries:
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_file() and path.suffix.lower() in PICTURES:
            yield path
        elif levels and path.is_dir() and path not in checkpoints:
            yield from _pictures(path, levels - 1)


def _certificates(run_dir: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, canonical JSON) of what the report says was proved."""
    report = read_report(run_dir) or {}
    for key in CERTIFICATES:
        if report.get(key):
            text = json.dumps(report[key], ensure_ascii=False, sort_keys=True)
            yield f"{REPORT_NAME}#{key}", text.encode("utf-8", "backslashreplace")


# -- one of them ---------------------------------------------------------------------------------------------------


def _looked_at(name: str, kind: str, path: Path, remembered: Remembered | None, *, is_logged: bool) -> RunArtefact:
    seen = _seen(path)
    if seen is None:
        return _missing(name, kind, path, remembered.sha256 if remembered is not None else None)
    artefact = RunArtefact(name, kind, path, seen.bytes, seen.mtime_ns / 1e9, None, Condition.UNCHECKED)
    if remembered is not None and (remembered.bytes, remembered.mtime_ns) == seen:
        return replace(artefact, sha256=remembered.sha256, condition=Condition.UNCHANGED)
    if is_logged and remembered is not None and remembered.bytes != seen.bytes:
        detail = f"it has {seen.bytes:,} bytes, and had {remembered.bytes:,} when it was logged"
        return replace(artefact, condition=Condition.CHANGED, detail=detail)
    if (sealed := _list_of_sealed(path)) is not None:
        return replace(artefact, sha256=_digest(sealed)) if sealed.is_file() else artefact
    return artefact


def _missing(name: str, kind: str, path: Path, sha256: str | None) -> RunArtefact:
    return RunArtefact(name, kind, path, None, None, sha256, Condition.MISSING, "it is no longer there")


def _seen(path: Path) -> _Seen | None:
    """Return size and time of a file or of all files in a directory; None: it is not there."""
    try:
        if not path.is_dir():
            status = path.stat()
            return _Seen(status.st_size, status.st_mtime_ns)
        stats = [file.stat() for file in _files_in(path)]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: it cannot be looked at ({error.strerror})") from error
    return _Seen(sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0))


def _files_in(directory: Path) -> list[Path]:
    return sorted(Path(folder) / name for folder, _, names in os.walk(directory) for name in names)


def _has_checksums(path: Path) -> bool:
    return _list_of_sealed(path) is not None


def _list_of_sealed(path: Path) -> Path | None:
    """Return the file in which a directory names its own files with their checksums; None: it has none."""
    return next((path / name for name in (MANIFEST_NAME, CHECKSUMS_NAME) if (path / name).is_file()), None)


def _fault_of_sealed(path: Path) -> str | None:
    """Read a directory with checksums of its own; return what is wrong, empty for nothing, None: it has none."""
    sealed = _list_of_sealed(path)
    if sealed is None:
        return None
    try:
        if sealed.name == MANIFEST_NAME:
            check_files(path, read_manifest(path))
        else:
            check_checksums(path)
    except CheckpointError as error:
        return str(error)
    return ""


def _sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of what stands for a directory.

    Raises:
        OSError: something cannot be read, or is no regular file.
    """
    if not path.is_dir():
        return _digest(path)
    sealed = _list_of_sealed(path)
    return _digest(sealed) if sealed is not None else hashlib.sha256(_list_of_checksums(path)).hexdigest()


def _list_of_checksums(directory: Path) -> bytes:
    """Return a line `SHA-256  path` for each file, in order of path, as `sha256sum` writes it."""
    lines = (f"{_digest(file)}  {file.relative_to(directory).as_posix()}\n" for file in _files_in(directory))
    return "".join(lines).encode("utf-8", "surrogateescape")


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a BinaryIO has readinto


def _at_work_since(run_dir: Path, time: float) -> bool:
    """Say whether the run has written its record after a time, so that it may have written anything."""
    updated = number((read_report(run_dir) or {}).get("updated_at"))
    return updated is not None and updated > time


# -- what was logged -----------------------------------------------------------------------------------------------


def read_logged(run_dir: Path) -> tuple[_Logged, ...]:
    """Return what `log_artefact` wrote down in a run, in its order.

    Raises:
        UserError: the list cannot be read.
    """
    path = run_dir / LOGGED_NAME
    try:
        return read_as(path, _LoggedFile).artifacts
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from error


def log_artefact(run_dir: Path, path: Path, name: str, kind: str, now: float) -> RunArtefact:
    """Write down that a run has made a file or directory, with its SHA-256. It stays where it is.

    One writer at a time: the process that holds the run's lock.

    Args:
        run_dir: directory of the run.
        path: what was made.
        name: what it is called in the run; a name that was logged before now means this one.
        kind: what it is, such as `logged`, `model`, `picture`.
        now: Unix seconds.

    Raises:
        UserError: it is not there or cannot be read, or the run directory cannot be written to.
    """
    try:
        seen = _seen(path)
        if seen is None:
            raise UserError(f"log_artifact: {path}: there is no such file or directory")
        digest = _sha256_of(path)
    except OSError as error:
        raise UserError(f"log_artifact: {path}: it cannot be read ({error.strerror})") from error
    real, inside = path.resolve(), run_dir.resolve()
    place = real.relative_to(inside).as_posix() if real.is_relative_to(inside) else str(real)
    entry = _Logged(name, place, seen.bytes, seen.mtime_ns, digest, round(now, 3), kind)
    try:
        others = [logged for logged in read_logged(run_dir) if logged.name != name]
        document = {"schema_version": SCHEMA_VERSION, "artifacts": [asdict(one) for one in (*others, entry)]}
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        write_atomically(run_dir / LOGGED_NAME, text.encode("utf-8", "backslashreplace"), durable=True)
    except OSError as error:
        raise UserError(f"{run_dir / LOGGED_NAME}: it cannot be written ({error.strerror})") from error
    return RunArtefact(name, kind, path, seen.bytes, seen.mtime_ns / 1e9, digest, Condition.UNCHANGED)
