"""Files and directories that are there whole or not at all. No torch.

A new file is built in the hidden `.NAME.tmp` next to it and renamed, so a link that has its name is replaced, and what
the link leads to stays as it is. A new directory `NAME` is built in `.NAME.tmp` too. To replace an older one, that is
moved aside to `.NAME.old`, the new one takes the name, and the old one is deleted: no file system swaps two directories
in a way that Python offers everywhere. A kill between the two renames leaves `.NAME.old` without a `NAME`; `put_back`
repairs that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def temporary_of(path: Path) -> Path:
    """Return the path at which a file or directory is built until it is whole."""
    return path.with_name(f".{path.name}.tmp")


def aside_of(path: Path) -> Path:
    """Return the path of an older directory of the same name while the new one takes its place."""
    return path.with_name(f".{path.name}.old")


def name_of_aside(aside: Path) -> Path:
    """Return the path whose `aside_of` this is."""
    return aside.with_name(aside.name.removeprefix(".").removesuffix(".old"))


def make_temporary(path: Path) -> Path:
    """Make an empty `.NAME.tmp`; the remains of an earlier attempt are deleted."""
    temporary = temporary_of(path)
    delete(temporary)
    temporary.mkdir(parents=True)
    return temporary


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished temporary directory its name, durably. Its files must have been fsynced."""
    for directory in (temporary, *(p for p in temporary.rglob("*") if p.is_dir())):
        sync_directory(directory)
    aside = aside_of(path)
    if path.exists():
        delete(aside)
        path.rename(aside)
    temporary.rename(path)
    sync_directory(path.parent)
    delete(aside)


def put_back(aside: Path) -> None:
    """Give a directory that was moved aside before a kill its name back, unless the new one has it already."""
    path = name_of_aside(aside)
    if path.exists():
        delete(aside)
    else:
        aside.rename(path)


def delete_whole(path: Path) -> None:
    """Delete a directory so that a kill in the middle leaves no torn one under its name."""
    temporary = temporary_of(path)
    delete(temporary)
    path.rename(temporary)
    delete(temporary)


def delete(path: Path) -> None:
    """Delete a file or a directory with all that is in it, if it is there. A link goes, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` durable. Windows cannot open a directory and does not need it."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path, durable: bool) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends; an error leaves `path` as it was.

    No reader and no kill of this process ever sees half a file; only a power cut could leave one, where `durable` is
    off. With an fsync at every update of the report, the reporter once took 46 % of a run's time while another
    program wrote to the same disk.

    Args:
        path: a file or a link that is replaced, or nothing yet.
        durable: also wait for the disk.
    """
    temporary = temporary_of(path)
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:  # "x" follows no link
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


@contextlib.contextmanager
def creating(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that is called `path` when the block ends. Nothing is replaced; an error leaves nothing.

    Raises:
        FileExistsError: something has the name, now or when the block ends.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        path.open("xb").close()  # takes the name, so that nobody's file is replaced
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


@contextlib.contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Make an empty directory that takes the place of `path` when the block ends; an error leaves `path` as it was.

    All files in it reach the disk before it gets the name, whichever library wrote them.

    Args:
        path: a directory that is replaced, or nothing yet.
    """
    temporary = make_temporary(path)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb+") as opened:  # Windows syncs only files that are open for writing
                    os.fsync(opened.fileno())
    except BaseException:
        delete(temporary)
        raise
    put_in_place(temporary, path)


def write_atomically(path: Path, data: bytes, durable: bool) -> None:
    """Replace `path` by `data`, or leave it as it was: see `replacing`."""
    with replacing(path, durable) as file:
        file.write(data)
