"""Data sets that the server lets be trained on: what lies below its data directories, known by id and never by path.

A request names an id (or the name that goes with it); both are looked up in a listing of the directories, so nothing
that a client sends becomes part of a path. Links are not followed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.server.gate.problems import Problem
from training.errors import UserError, did_you_mean, printable
from training.tasks.rows.datasets_rows import is_saved_dataset
from training.tasks.rows.find import FORMATS, PACKED

ID_LENGTH = 12
DEEPEST = 4
"""Levels of directories that are entered."""
MOST_ENTRIES = 20_000
"""Directory entries that one listing reads."""
MOST_DATA_SETS = 2_000


@dataclass(frozen=True)
class DataSet:
    """A file of rows, or a directory that the library `datasets` saved."""

    id: str
    name: str
    """Path below its data directory, as it is shown."""
    path: Path
    format: str
    bytes: int

    def document(self) -> dict[str, object]:
        """Return what a client sees."""
        return {"id": self.id, "name": self.name, "bytes": self.bytes, "format": self.format}


def list_data_sets(directories: Sequence[Path]) -> list[DataSet]:
    """Return the data sets below directories, in order of name.

    Hidden files, links, and whatever is no data by its name are passed over. A directory that cannot be read is too.
    """
    found = [one for directory in directories for one in _below(directory)]
    return sorted(found, key=lambda one: one.name)[:MOST_DATA_SETS]


def find_data_set(directories: Sequence[Path], id_or_name: str, key: str | None = None) -> DataSet:
    """Return the data set that a client names.

    Args:
        directories: of data sets.
        id_or_name: 12 hexadecimal digits, or the name, where only one data set has it.
        key: setting that names it, for the problem.

    Raises:
        Problem: there is none, or several have the name.
    """
    known = list_data_sets(directories)
    matching = [one for one in known if one.id == id_or_name] or [one for one in known if one.name == id_or_name]
    if len(matching) == 1:
        return matching[0]
    status = 404 if key is None else 422
    if matching:
        raise Problem(
            status, "", f"{len(matching)} data sets have the name {id_or_name!r}; name one by its id", key=key
        )
    hint = did_you_mean(id_or_name, [one.name for one in known])
    raise Problem(status, "", f"no data set has the id or name {id_or_name!r}; GET /api/data lists them{hint}", key=key)


def _below(directory: Path) -> Iterator[DataSet]:
    """Yield the data sets of one directory; every directory is opened from its parent, so that no link is followed."""
    left = MOST_ENTRIES
    try:
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    waiting: list[tuple[int, Path]] = [(top, Path())]
    try:
        while waiting:
            descriptor, below = waiting.pop()
            try:
                with os.scandir(descriptor) as entries:
                    names = sorted(entry.name for entry in entries)[:left]
                left -= len(names)
                for name in names:
                    yield from _entry(directory, descriptor, below / name, waiting)
            except OSError:
                continue  # it has gone meanwhile, or may not be read
            finally:
                os.close(descriptor)
    finally:
        for descriptor, _ in waiting:
            os.close(descriptor)


def _entry(directory: Path, parent: int, below: Path, waiting: list[tuple[int, Path]]) -> Iterator[DataSet]:
    if below.name.startswith((".", "_")) or not _is_text(below.name):
        return
    found = os.stat(below.name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISREG(found.st_mode):
        if (kind := _format(below.name)) is not None and found.st_size:
            yield _data_set(directory, below, kind, found.st_size)
    elif stat.S_ISDIR(found.st_mode):
        if is_saved_dataset(directory / below):
            size = sum(file.lstat().st_size for file in (directory / below).rglob("*") if file.is_file())
            yield _data_set(directory, below, "datasets", size)
        elif len(below.parts) < DEEPEST:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            waiting.append((os.open(below.name, flags, dir_fd=parent), below))


def _data_set(directory: Path, below: Path, kind: str, size: int) -> DataSet:
    where = f"{directory}\0{below.as_posix()}".encode("utf-8", "surrogateescape")
    return DataSet(
        hashlib.sha256(where).hexdigest()[:ID_LENGTH], printable(below.as_posix()), directory / below, kind, size
    )


def _format(name: str) -> str | None:
    """Return the format that a file's name tells; None: it is no data."""
    path = Path(name.lower())
    packed = path.suffix == PACKED
    found = FORMATS.get(Path(path.stem).suffix if packed else path.suffix)
    return None if found is None or (packed and not found.can_be_packed) else found.name


def _is_text(name: str) -> bool:
    """Return False for bytes that are no text: a run's files, which are text, could not name them."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_directories(directories: Sequence[Path]) -> None:
    """Refuse a directory of data sets that cannot be read.

    Raises:
        UserError: names the first one.
    """
    for directory in directories:
        try:
            os.scandir(directory).close()
        except OSError as error:
            raise UserError(f"--data {directory}: cannot be read ({error.strerror}); give another directory") from error
