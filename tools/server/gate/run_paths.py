"""From a run's id to its directory, and from names in it to open files: below the root, and through no link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tools.server.gate.problems import Problem
from tools.server.gate.state import ServerState
from training.experiments.store.identity import is_run_id
from training.language.messages import Message

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True)
class FoundRun:
    """A run that a client has named."""

    id: str
    name: str
    """As people call it: its path below the root."""
    path: Path
    """Its directory; it need not be there yet, where the run's job waits for a slot."""


def no_such_run(run_id: str) -> Problem:
    """Return the answer to an id that no run has."""
    return Problem(
        404, "No such run", Message("no run has the id '{id}'; GET /api/training/jobs lists them", id=run_id)
    )


def found_run(state: ServerState, run_id: str) -> FoundRun:
    """Return the run with an id.

    Raises:
        Problem: there is none.
    """
    if not is_run_id(run_id):
        raise no_such_run(run_id)
    found = state.index.find(run_id)
    if found is None or not is_below(state.root, found.path):
        raise no_such_run(run_id)
    return FoundRun(run_id, found.name, found.path)


def is_below(root: Path, path: Path) -> bool:
    """Return whether a path lies below a root, and no part of it below the root is a link."""
    if path != root and not path.is_relative_to(root):
        return False
    current = root
    for part in path.relative_to(root).parts:
        current /= part
        if part == ".." or current.is_symlink():
            return False
    return True


@contextmanager
def open_directory(root: Path, path: Path) -> Iterator[int]:
    """Open a directory below a root part by part, so that none of its parts is a link.

    Yields:
        Its descriptor, for `dir_fd`.

    Raises:
        OSError: a part is missing, or a link, or no directory.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.relative_to(root).parts:
            inner = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def open_in(directory: int, name: str) -> BinaryIO:
    """Open a regular file in an open directory.

    Raises:
        OSError: it is missing, a link, or no regular file.
    """
    descriptor = os.open(name, _FLAGS, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(name)
    return os.fdopen(descriptor, "rb")
