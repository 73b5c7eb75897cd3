"""Whole runs in one zip file with checksums, to be read elsewhere. No torch.

    manifest.json                     the runs, and size and SHA-256 of every file
    runs/baseline/run_0001/…          each run directory under its path below the root

A run at work is refused: its record, report and checkpoints change while they are read, and no instant of them is
whole. Stop it (it saves a checkpoint and can be resumed here and there), or wait for its end. That nothing has changed
is looked at again before the archive gets its name.

An archive comes from anywhere, so `read_archive` takes it for hostile: nothing is written outside a hidden directory
below the root until every name, size and checksum has been found right, nothing that is there is replaced, and either
all runs of it appear or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from training.checkpoints.branches import is_branch_name
from training.checkpoints.manifest import is_checkpoint_name
from training.checkpoints.run_lock import is_locked, owner_of
from training.errors import UserError, without_middle
from training.experiments.store.identity import SERVER_DIRECTORY, id_of_relative
from training.record.log import LOG_NAME, REPORT_NAME
from training.storage.atomic import creating, delete, sync_directory
from training.storage.checksums import is_intact, sealed
from training.storage.file_locks import one_at_a_time
from training.storage.inner_paths import fault_of_inner_path
from training.storage.json_files import DamagedFileError, as_declared, open_regular, parse_json
from training.storage.run_files import run_files

FORMAT, VERSION = "apt-runs", 1
MANIFEST_NAME = "manifest.json"
_FOLDER = "runs"
MOST_FILES = 200_000
MOST_MANIFEST_BYTES = 128 * 2**20
MOST_TIMES_LARGER = 200
"""Times its own size that an archive may unpack to; logs shrink to a tenth, and a zip bomb begins at a thousand."""
ALWAYS_ALLOWED_BYTES = 64 * 2**20
"""Size to which any archive may unpack: a small one full of zeros is no bomb."""
_CHUNK = 2**20
_STORED = frozenset({".safetensors", ".pt", ".bin", ".png", ".jpg", ".jpeg", ".gif", ".mp4", ".webp", ".zip"})
"""Endings of files that no compression makes smaller."""
_REGULAR = stat.S_IFREG | 0o644
_HEADER_BYTES = 30
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What Python's reader raises for an archive that is damaged or made to be."""


@dataclass(frozen=True)
class RunToExport:
    """One run that goes into an archive."""

    path: str
    """Below the root, with `/` between its parts."""
    directory: Path


@dataclass(frozen=True)
class ImportedRun:
    """One run that came out of an archive."""

    id: str
    path: Path


@dataclass(frozen=True)
class _File:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Run:
    id: str
    path: str


@dataclass(frozen=True)
class _Manifest:
    created_at: float
    runs: tuple[_Run, ...]
    files: Mapping[str, _File]


_Status = tuple[int, int, int]
"""Inode, bytes and time of the last change of a file."""


# -- out -----------------------------------------------------------------------------------------------------------


def write_archive(runs: Sequence[RunToExport], path: Path, *, with_checkpoints: bool = True) -> list[str]:
    """Write runs to a zip file. Hidden files, links and runs inside a run are no part of it.

    Args:
        runs: which ones; none of them may be at work.
        path: a file that is not there yet.
        with_checkpoints: leave out checkpoints, branches and weight snapshots where this is False: the run can then be
            looked at elsewhere, and not resumed.

    Returns:
        Names of what was left out besides, because it is a link or no regular file.

    Raises:
        UserError: a run is at work or was changed meanwhile, something cannot be read, or the disk refuses.
    """
    left_out: list[str] = []
    try:
        before = [(run, _listed(run, with_checkpoints, left_out)) for run in runs]
        with creating(path) as file:
            _pack(file, before)
            for run, listed in before:
                if _listed(run, with_checkpoints, []) != listed:
                    raise _changed(run)
    except FileExistsError as error:
        raise UserError(f"{path}: it is there already, and nothing is replaced; give another name") from error
    except OSError as error:
        raise UserError(f"{error.filename or path}: the archive cannot be written ({error.strerror})") from error
    return left_out


def _pack(file: BinaryIO, runs: Sequence[tuple[RunToExport, Mapping[str, _Status]]]) -> None:
    """Write the archive's content, the manifest last."""
    files: dict[str, _File] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for run, listed in runs:
            for name, status in listed.items():
                files[f"{_FOLDER}/{run.path}/{name}"] = _packed(archive, run, name, status)
        listing = tuple(_Run(id_of_relative(run.path), run.path) for run, _ in runs)
        document = {"format": FORMAT, "version": VERSION, **asdict(_Manifest(round(time.time(), 3), listing, files))}
        archive.writestr(_info(MANIFEST_NAME), sealed(document), zipfile.ZIP_DEFLATED)


def _listed(run: RunToExport, with_checkpoints: bool, left_out: list[str]) -> dict[str, _Status]:
    """Return the files of a run that go into an archive, by path within it.

    Raises:
        UserError: the run is at work, or a name cannot be kept.
    """
    if is_locked(run.directory):
        owner = owner_of(run.directory)
        who = f" (pid {owner.pid})" if owner is not None else ""
        raise UserError(
            f"{run.path}: the run is at work{who}, and its files change while they are read; stop it, or wait for its "
            "end, and export it then"
        )
    snapshots = {f.pattern for f in run_files() if f.artefact == "snapshot"}
    found: dict[str, _Status] = {}
    for folder, subfolders, names in os.walk(run.directory):
        place = Path(folder)
        kept = []
        for name in sorted(subfolders):
            inner, is_part = place / name, is_checkpoint_name(name) or is_branch_name(name)
            is_run = not is_part and any((inner / record).is_file() for record in (LOG_NAME, REPORT_NAME))
            if name.startswith(".") or is_run or (not with_checkpoints and (is_part or name in snapshots)):
                continue
            if inner.is_symlink():
                left_out.append(inner.relative_to(run.directory).as_posix())
                continue
            kept.append(name)
        subfolders[:] = kept
        for name in sorted(names):
            file = place / name
            relative = file.relative_to(run.directory).as_posix()
            status = file.lstat()
            if name.startswith("."):
                continue
            if not stat.S_ISREG(status.st_mode):
                left_out.append(relative)
                continue
            if (fault := fault_of_inner_path(f"{_FOLDER}/{run.path}/{relative}")) is not None:
                raise UserError(f"{file}: {fault}, so no archive can hold it; rename it")
            found[relative] = (status.st_ino, status.st_size, status.st_mtime_ns)
    if not {LOG_NAME, REPORT_NAME} & found.keys():
        raise UserError(f"{run.directory}: there is no record of a run in it")
    return found


def _packed(archive: zipfile.ZipFile, run: RunToExport, name: str, status: _Status) -> _File:
    """Copy one file into the archive and return its description."""
    size = status[1]
    info = _info(f"{_FOLDER}/{run.path}/{name}")
    info.compress_type = zipfile.ZIP_STORED if Path(name).suffix.lower() in _STORED else zipfile.ZIP_DEFLATED
    info.file_size = size  # zipfile decides by it whether the entry needs 64 bits
    digest, copied = hashlib.sha256(), 0
    with open_regular(run.directory / name) as source, archive.open(info, "w") as target:
        while chunk := source.read(min(_CHUNK, size - copied)):
            digest.update(chunk)
            copied += len(chunk)
            target.write(chunk)
    if copied != size:
        raise _changed(run)
    return _File(size, digest.hexdigest())


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)  # with the format's first day as its time: times are no content
    info.external_attr = _REGULAR << 16
    info.create_system = 3
    return info


def _changed(run: RunToExport) -> UserError:
    return UserError(f"{run.path}: the run was changed while it was read; export it when nothing writes there")


# -- in ------------------------------------------------------------------------------------------------------------


def read_archive(archive: Path, root: Path, into: str = "") -> list[ImportedRun]:
    """Put the runs of an archive below a root, each where it was below its own. All of them appear, or none.

    Args:
        archive: a file that `write_archive` made, here or elsewhere.
        root: directory that holds all runs; made if it is not there.
        into: folder below the root that the runs are put in; empty: the root itself.

    Raises:
        UserError: it is no such archive, is damaged or made to do harm, a run is there already, or the disk refuses.
    """
    if into and (fault := fault_of_inner_path(into)) is not None:
        raise UserError(f"--into {into}: {fault}; give a folder below {root}")
    try:
        with open_regular(archive) as file, _opened(file, archive) as unpacked:
            entries = _checked_entries(unpacked, archive)
            manifest = _read_manifest(unpacked, entries, archive)
            targets = [(run, root / PurePosixPath(into) / PurePosixPath(run.path)) for run in manifest.runs]
            _refuse_taken(targets, root, archive)
            size = sum(entry.bytes for entry in manifest.files.values())
            root.mkdir(parents=True, exist_ok=True)
            if size > (free := shutil.disk_usage(root).free):
                raise UserError(f"{archive}: it unpacks to {size:,} bytes, and {root} has {free:,} free; make room")
            with _staging(root) as staging:
                parts = _unpack(unpacked, entries, manifest, staging, archive)
                _put_in_place([(parts[run.path], target) for run, target in targets], root, archive)
    except _BAD_ZIP as error:
        raise _damaged(archive, str(error) or type(error).__name__) from error
    except OSError as error:
        raise UserError(
            f"{error.filename or archive}: the import failed ({error.strerror}); nothing was imported"
        ) from error
    return [ImportedRun(id_of_relative(target.relative_to(root).as_posix()), target) for _, target in targets]


@contextlib.contextmanager
def _opened(file: BinaryIO, archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        unpacked = zipfile.ZipFile(file)
    except _BAD_ZIP as error:
        raise UserError(
            f"{archive}: it is no zip file, or a damaged one ({error}); give one that `export` made"
        ) from error
    with unpacked:
        yield unpacked


def _checked_entries(unpacked: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Return an archive's entries by name, if each is a plain file of its own that may be unpacked.

    Raises:
        UserError: a name leads elsewhere or stands there twice, an entry is a link or a folder, two share their bytes,
            or all together unpack to far more than the archive has.
    """
    infos = unpacked.infolist()
    if len(infos) > MOST_FILES:
        raise _refused(archive, f"it has {len(infos):,} entries, more than {MOST_FILES:,}")
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.orig_filename  # as it stands there: Python's `filename` is already mended
        if (fault := fault_of_inner_path(name)) is not None:
            raise _refused(archive, f"the name {without_middle(repr(name), 200)}: {fault}")
        if name in found:
            raise _refused(archive, f"{name} stands there twice")
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise _refused(archive, f"{name} is {'a link' if stat.S_ISLNK(mode) else 'no plain file'}")
        if info.flag_bits & 0x1:
            raise _refused(archive, f"{name} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refused(archive, f"{name} is packed by method {info.compress_type}, which no archive of ours has")
        found[name] = info
    _refuse_shared_bytes(unpacked, infos, archive)
    size = sum(info.file_size for info in infos)
    packed = sum(info.compress_size for info in infos)
    if size > max(ALWAYS_ALLOWED_BYTES, MOST_TIMES_LARGER * packed):
        raise _refused(archive, f"its {packed:,} bytes would unpack to {size:,}: a zip bomb")
    return found


def _refuse_shared_bytes(unpacked: zipfile.ZipFile, infos: Iterable[zipfile.ZipInfo], archive: Path) -> None:
    """Refuse entries that lie over one another: a bomb can use the same bytes a thousand times."""
    end, last = 0, ""
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise _refused(archive, f"{info.filename} lies over {last}")
        end, last = info.header_offset + _HEADER_BYTES + info.compress_size, info.filename
    if end > unpacked.start_dir:
        raise _refused(archive, f"{last} lies over the list of files")


def _read_manifest(unpacked: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], archive: Path) -> _Manifest:
    """Return the manifest, if it names exactly the files that are there.

    Raises:
        UserError: there is none, it is damaged, or of another version, or does not fit the archive.
    """
    info = entries.get(MANIFEST_NAME)
    if info is None:
        raise UserError(f"{archive}: there is no {MANIFEST_NAME} in it; give an archive that `export` made")
    if info.file_size > MOST_MANIFEST_BYTES:
        raise _refused(archive, f"its {MANIFEST_NAME} has {info.file_size:,} bytes")
    try:
        document = parse_json(unpacked.read(info))
    except ValueError as error:
        raise _damaged(archive, f"{MANIFEST_NAME}: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"{archive}: its {MANIFEST_NAME} has no format {FORMAT!r}; give an archive that `export` made")
    if (version := document.get("version")) != VERSION:
        raise UserError(f"{archive}: archive version {version!r} cannot be read (this program reads {VERSION})")
    if not is_intact(document):
        raise _damaged(archive, f"{MANIFEST_NAME} does not match its own checksum")
    try:
        manifest = as_declared(document, _Manifest, f"{archive}: {MANIFEST_NAME}")
    except DamagedFileError as error:
        raise UserError(str(error)) from error
    _check_fit(manifest, entries, archive)
    return manifest


def _check_fit(manifest: _Manifest, entries: Mapping[str, zipfile.ZipInfo], archive: Path) -> None:
    packed = entries.keys() - {MANIFEST_NAME}
    if missing := sorted(manifest.files.keys() - packed):
        raise _damaged(archive, f"{missing[0]} is missing")
    if further := sorted(packed - manifest.files.keys()):
        raise _refused(archive, f"{further[0]} is not named by {MANIFEST_NAME}")
    for name, file in manifest.files.items():
        if entries[name].file_size != file.bytes:
            raise _damaged(
                archive, f"{name} has {entries[name].file_size:,} bytes, and its checksum is of {file.bytes:,}"
            )
    paths = [run.path for run in manifest.runs]
    if not paths:
        raise UserError(f"{archive}: there is no run in it")
    for path in paths:
        if (fault := fault_of_inner_path(path)) is not None:
            raise _refused(archive, f"the run {without_middle(repr(path), 200)}: {fault}")
        if any(is_checkpoint_name(part) or is_branch_name(part) for part in PurePosixPath(path).parts):
            raise _refused(archive, f"the run {path} has the name of a checkpoint, where no run would be found")
    if len(set(paths)) < len(paths):
        raise _refused(archive, "a run stands there twice")


def _run_of(name: str, paths: Iterable[str]) -> str | None:
    """Return the path of the run that a file belongs to; of a run inside a run, the inner one's."""
    owners = [path for path in paths if name.startswith(f"{_FOLDER}/{path}/")]
    return max(owners, key=len, default=None)


def _refuse_taken(targets: Iterable[tuple[_Run, Path]], root: Path, archive: Path) -> None:
    """Refuse to put a run where something is, or below anything but real directories.

    Raises:
        UserError: names the first.
    """
    for run, target in targets:
        if os.path.lexists(target):
            raise UserError(
                f"{archive}: {target} is there already, and nothing is replaced; import into another folder with --into"
            )
        for folder in (folder for folder in target.parents if folder.is_relative_to(root) and folder != root):
            if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
                raise UserError(f"{archive}: the run {run.path} would lie in {folder}, which is a link or a file")


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """Make an empty hidden directory below the root, which is gone when the block ends, for one import at a time."""
    own = root / SERVER_DIRECTORY
    if own.is_symlink():
        raise UserError(f"{own}: it is a link; remove it")
    own.mkdir(mode=0o700, exist_ok=True)
    with one_at_a_time(own / "import.lock"):
        staging = own / "import"
        delete(staging)  # what a kill left
        staging.mkdir(mode=0o700)
        try:
            yield staging
        finally:
            delete(staging)


def _unpack(
    unpacked: zipfile.ZipFile,
    entries: Mapping[str, zipfile.ZipInfo],
    manifest: _Manifest,
    staging: Path,
    archive: Path,
) -> dict[str, Path]:
    """Write all files below a directory of its own for each run, and compare their checksums.

    Returns:
        The directory of each run, by its path.
    """
    paths = [run.path for run in manifest.runs]
    parts = {path: staging / str(number) for number, path in enumerate(paths)}
    for part in parts.values():
        part.mkdir()
    for name, file in manifest.files.items():
        owner = _run_of(name, paths)
        if owner is None:
            raise _refused(archive, f"{name} belongs to no run")
        target = parts[owner] / PurePosixPath(name.removeprefix(f"{_FOLDER}/{owner}/"))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(unpacked, entries[name], file, target, archive)
        except (FileExistsError, NotADirectoryError) as error:
            raise _refused(
                archive, f"{name} is a file and a folder, or differs from another name by its case alone"
            ) from error
    for path, part in parts.items():
        if not any((part / name).is_file() for name in (LOG_NAME, REPORT_NAME)):
            raise _refused(archive, f"the run {path} has no record")
    return parts


def _write(unpacked: zipfile.ZipFile, info: zipfile.ZipInfo, file: _File, target: Path, archive: Path) -> None:
    digest, left = hashlib.sha256(), file.bytes
    with unpacked.open(info) as source, target.open("xb") as written:
        while chunk := source.read(min(_CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    if left or digest.hexdigest() != file.sha256:
        raise _damaged(archive, f"{info.filename} does not match its checksum")


def _put_in_place(moves: Sequence[tuple[Path, Path]], root: Path, archive: Path) -> None:
    """Give every unpacked run its name; an error takes those back that have one already."""
    done: list[tuple[Path, Path]] = []
    made: list[Path] = []
    try:
        for part, target in sorted(moves, key=lambda move: len(move[1].parts)):
            for folder in reversed(target.parents):
                if folder.is_relative_to(root) and not folder.exists():
                    folder.mkdir()
                    made.append(folder)
            if os.path.lexists(target):
                raise UserError(f"{archive}: {target} has appeared meanwhile, and nothing is replaced; import again")
            for folder in (part, *(path for path in part.rglob("*") if path.is_dir())):
                sync_directory(folder)
            part.rename(target)
            done.append((part, target))
            sync_directory(target.parent)
    except BaseException:
        for part, target in reversed(done):
            target.rename(part)
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


# -- errors --------------------------------------------------------------------------------------------------------


def _refused(archive: Path, reason: str) -> UserError:
    return UserError(f"{archive}: refused, {reason}; nothing was imported")


def _damaged(archive: Path, reason: str) -> UserError:
    return UserError(f"{archive}: damaged, {reason}; fetch it again")
