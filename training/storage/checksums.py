"""Checksums of a directory's files: which bytes belong to it, so that a change of any of them is noticed. No torch.

A directory is described by a document of plain data that names every file with its size and BLAKE2b and carries a
BLAKE2b of itself: a checkpoint's `manifest.json`, and the `checksums.json` of a finished model. A directory that a kill
tore, a byte that a disk altered and a file that a copy lost are all noticed, and named.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from training.errors import CheckpointError, UnreadableError, unreadable
from training.storage.atomic import write_atomically
from training.storage.json_files import DamagedFileError, as_declared, read_json

NAME = "checksums.json"
FORMAT, VERSION = "apt-checksums", 1


@dataclass(frozen=True)
class FileEntry:
    """One file of a directory."""

    bytes: int
    blake2b: str
    """Hex, 16 bytes."""


@dataclass(frozen=True)
class _Checksums:
    files: Mapping[str, FileEntry]


def file_entries(directory: Path) -> dict[str, FileEntry]:
    """Describe every file that lies in a directory, and make it durable.

    Returns:
        By path within the directory, with `/` between the parts.

    Raises:
        OSError: the disk is full or refuses.
    """
    entries: dict[str, FileEntry] = {}
    for path in sorted(p for p in directory.rglob("*") if p.is_file()):
        with path.open("rb+") as file:  # Windows makes durable only what it may write
            entries[path.relative_to(directory).as_posix()] = FileEntry(path.stat().st_size, _checksum(file))
            os.fsync(file.fileno())
    return entries


def check_entries(directory: Path, entries: Mapping[str, FileEntry], source: str) -> None:
    """Compare every file with its description. Files that are not described are not looked at.

    Args:
        directory: where the files are.
        entries: as `file_entries` gave them.
        source: name of the file that they were read from, for the error.

    Raises:
        CheckpointError: a file is missing, cut short or altered; it is named.
        UnreadableError: the system refuses to read one.
    """
    path = directory
    try:
        for name, entry in entries.items():  # all sizes first: they cost nothing
            path = directory / name
            size = path.stat().st_size
            if size != entry.bytes:
                fault = "cut short" if size < entry.bytes else "damaged"
                raise CheckpointError(f"{path}: {fault}; it has {size} bytes, and {source} says {entry.bytes}")
        for name, entry in entries.items():
            path = directory / name
            with path.open("rb") as file:
                if _checksum(file) != entry.blake2b:
                    raise CheckpointError(f"{path}: damaged; its content does not match its checksum in {source}")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except OSError as error:
        raise unreadable(path, error) from error


def sealed(document: Mapping[str, Any]) -> bytes:
    """Return plain data as the text of a JSON file, with a checksum of itself."""
    complete = {**document, "blake2b": _checksum_of(document)}
    return (json.dumps(complete, ensure_ascii=False, indent=1) + "\n").encode()


def is_intact(document: dict[str, Any]) -> bool:
    """Return whether a document that `sealed` wrote is unchanged; takes its checksum out of it."""
    return bool(document.pop("blake2b", None) == _checksum_of(document))


def write_checksums(directory: Path) -> None:
    """Describe every file of a directory in its `checksums.json`, and make all of it durable.

    Raises:
        OSError: the disk is full or refuses.
    """
    files = {name: asdict(entry) for name, entry in file_entries(directory).items() if name != NAME}
    document = {"format": FORMAT, "version": VERSION, "files": files}
    write_atomically(directory / NAME, sealed(document), durable=True)


def check_checksums(directory: Path) -> None:
    """Compare the files of a directory with its `checksums.json`, if it has one; other programs write none.

    Raises:
        CheckpointError: a file is missing, cut short or altered; it is named.
        UnreadableError: the system refuses to read one.
    """
    path = directory / NAME
    try:
        document = read_json(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(path, error) from error
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(document, dict) or not is_intact(document):
        raise CheckpointError(f"{path}: damaged, it does not match its own checksum")
    if (document.get("format"), document.get("version")) != (FORMAT, VERSION):
        version = document.get("version")
        raise CheckpointError(f"{path}: version {version!r} cannot be read (this program reads {VERSION})")
    try:
        check_entries(directory, as_declared(document, _Checksums, path).files, NAME)
    except DamagedFileError as error:
        raise CheckpointError(str(error)) from error
    except UnreadableError:
        raise
    except CheckpointError as error:
        raise CheckpointError(f"{error}; if you changed the model on purpose, delete {NAME}") from error


def _checksum(file: BinaryIO) -> str:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # type: ignore[arg-type]


def _checksum_of(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
