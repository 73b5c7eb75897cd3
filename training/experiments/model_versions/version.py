"""A version of a model: a directory that is written once, and its document, which names every byte in it. No torch.

    3/model_version.json        what the version is, with size and SHA-256 of each other file
    3/final_model/…             the model
    3/config.yaml               settings of its run   } so that the directory reads like a run's: the verifier finds the
    3/experiment_report.json    figures of its run    } data, and an export the curve
    3/verification.json         the verifier's report on these very weights

The last three are there if the run had them. The document carries a checksum of itself (`training.storage.checksums`).
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any

from training.checkpoints.run_directory import MODEL_DIRECTORY
from training.checkpoints.run_search import VERSION_NAME
from training.errors import UserError, unreadable
from training.storage.atomic import write_atomically
from training.storage.checksums import is_intact, sealed
from training.storage.inner_paths import fault_of_inner_path
from training.storage.json_files import DamagedFileError, as_declared, open_regular, read_json

FORMAT, SCHEMA_VERSION = "apt-model-version", 1
_CHUNK = 2**20


@dataclass(frozen=True)
class FileHash:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str
    """Hex."""


@dataclass(frozen=True)
class SourceRun:
    """The run that a model came from."""

    run_id: str | None
    directory: str
    """Absolute path at the time of the registration, printable."""
    state: str
    started_at: float | None
    """Unix seconds."""
    ended_at: float | None
    model_step: int | None
    """Updates that the model has had; None: the record does not say."""


@dataclass(frozen=True)
class Parent:
    """The version that a model was trained on from."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"


@dataclass(frozen=True)
class Version:
    """A version's document. None: not known."""

    name: str
    number: int
    registered_at: float
    """Unix seconds."""
    note: str
    family: str
    task: str | None
    digest: str
    """SHA-256 of the lines `SHA-256  path` of the model's files, as `sha256sum` prints them: two versions with the same
    one hold the same model, byte for byte."""
    files: Mapping[str, FileHash]
    """Hashes by path within the version, with `/` between the parts; the document itself is not among them."""
    settings: Mapping[str, Any] | None
    """Settings of the run, by dotted name."""
    config_hash: str | None
    """`TrainingConfig.curve_hash` of the run."""
    data_fingerprint: str | None
    figures: Mapping[str, float | None]
    """None: measured, and not finite."""
    run: SourceRun | None
    parent: Parent | None
    started_from: str | None
    """The model that the run was started from, as its settings name it."""

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files.values())


class Damage(StrEnum):
    """Ways in which a file can differ from what a version's document says."""

    DAMAGED = "damaged"
    MISSING = "missing"
    ADDED = "added"


@dataclass(frozen=True)
class FileFault:
    """One file that is not as the document says."""

    path: str
    """Within the version."""
    damage: Damage
    detail: str


# -- the document --------------------------------------------------------------------------------------------------


def write_version(directory: Path, version: Version) -> None:
    """Write the document into the directory of a version.

    Raises:
        OSError: the disk is full or refuses.
    """
    document = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **asdict(version)}
    write_atomically(directory / VERSION_NAME, sealed(document), durable=True)


def read_version(directory: Path) -> Version:
    """Return the document of a version.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: it is damaged, or leads out of its directory.
        UserError: it is of another program version, or may not be read.
    """
    path = directory / VERSION_NAME
    try:
        document = read_json(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DamagedFileError(path, f"it has no format {FORMAT!r}")
    if (found := document.get("schema_version")) != SCHEMA_VERSION:
        raise UserError(f"{path}: schema version {found!r} cannot be read (this program reads {SCHEMA_VERSION})")
    if not is_intact(document):
        raise DamagedFileError(path, "it does not match its own checksum")
    version = as_declared(document, Version, path)
    for name in version.files:
        if (fault := fault_of_inner_path(name)) is not None:
            raise DamagedFileError(path, f"it names the file {name!r}: {fault}")
    return version


def digest_of(files: Mapping[str, FileHash]) -> str:
    """Return the SHA-256 that stands for a whole model.

    Args:
        files: by path within the model's directory.
    """
    lines = (f"{file.sha256}  {name}\n" for name, file in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# -- files ---------------------------------------------------------------------------------------------------------


def model_files(directory: Path) -> dict[str, Path]:
    """Return the files of a model's directory, by path within it. Hidden ones are no part of it.

    A link to a file counts as the file: the Hub's cache is made of such links.

    Raises:
        UserError: a name cannot be kept everywhere, or something is neither file nor directory.
    """
    found: dict[str, Path] = {}
    for folder, subfolders, names in os.walk(directory, onerror=_refuse):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in subfolders:
            if (place := Path(folder, name)).is_symlink():
                raise UserError(f"{place}: a link to a directory, and a model is copied file by file; remove it")
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(folder, name)
            inner = path.relative_to(directory).as_posix()
            if (fault := fault_of_inner_path(f"{MODEL_DIRECTORY}/{inner}")) is not None:
                raise UserError(f"{path}: {fault}, so no version can hold it; rename it")
            found[inner] = path
    return found


def _refuse(error: OSError) -> None:
    raise unreadable(Path(str(error.filename)), error)


def hash_of(path: Path) -> FileHash:
    """Return size and SHA-256 of a file.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return FileHash(size, digest.hexdigest())


def copy_file(source: Path, target: Path, expected: FileHash) -> bool:
    """Copy a file durably, and return whether it has the expected content. Directories on the way are made.

    Raises:
        OSError: it cannot be read, or the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with open_regular(source) as file, target.open("xb") as written:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())
    return FileHash(size, digest.hexdigest()) == expected


def place_in(directory: Path, name: str) -> Path:
    """Return the path of one of the files that a document names."""
    return directory / PurePosixPath(name)


# -- verifying -----------------------------------------------------------------------------------------------------


def file_faults(directory: Path, version: Version) -> Iterator[FileFault]:
    """Yield each file that is not as the document says. Everything is read.

    Raises:
        UserError: the system refuses to read a file.
    """
    for name, expected in sorted(version.files.items()):
        if (fault := _fault_of_file(place_in(directory, name), name, expected)) is not None:
            yield fault
    named = {*version.files, VERSION_NAME}
    for folder, subfolders, names in os.walk(directory, onerror=_refuse):
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        for name in sorted([*names, *links]):
            inner = Path(folder, name).relative_to(directory).as_posix()
            if inner not in named:
                yield FileFault(inner, Damage.ADDED, f"{VERSION_NAME} does not name it")


def _fault_of_file(path: Path, name: str, expected: FileHash) -> FileFault | None:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return FileFault(name, Damage.DAMAGED, "it is no regular file")
        if status.st_size != expected.bytes:
            detail = f"it has {status.st_size:,} bytes, and had {expected.bytes:,}"
            return FileFault(name, Damage.DAMAGED, detail)
        found = hash_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return FileFault(name, Damage.MISSING, "it is no longer there")
    except OSError as error:
        raise unreadable(path, error) from error
    if found != expected:
        detail = f"its SHA-256 is {found.sha256[:12]}…, and was {expected.sha256[:12]}…"
        return FileFault(name, Damage.DAMAGED, detail)
    return None
