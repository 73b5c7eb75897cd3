"""The identity of a run: one id for the store, the server and its jobs, known before the run begins. No torch.

It depends only on where the run directory lies below the root, so anybody computes it and nothing must be written down.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from training.errors import UserError, printable

SERVER_DIRECTORY = ".server"
"""Directory below the root for what the server and the store add. It is hidden, so no search for runs enters it."""
ID_LENGTH = 12
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


def is_run_id(text: str) -> bool:
    """Say whether a text has the form of an id."""
    return _ID.fullmatch(text) is not None


def run_id_of(root: Path, path: Path) -> str:
    """Return the id of the run whose directory is `path`, whether or not it is there yet.

    Args:
        root: directory that holds all runs.
        path: the run directory: the root itself, or a directory below it.

    Returns:
        The first 12 hexadecimal digits of the SHA-256 of the path relative to the root.

    Raises:
        UserError: the directory does not lie below the root.

    Example:
        >>> run_id_of(Path("runs"), Path("runs/sweep/a"))
        '489291469956'
    """
    return id_of_relative(relative_path(root, path))


def id_of_relative(relative: str) -> str:
    """Return the id of a run by what `relative_path` returned."""
    return hashlib.sha256(relative.encode("utf-8", "surrogateescape")).hexdigest()[:ID_LENGTH]


def relative_path(root: Path, path: Path) -> str:
    """Return the path of a run directory relative to the root, with `/` between its parts; `.` is the root itself.

    Raises:
        UserError: the directory does not lie below the root.
    """
    # Resolved first, so that a directory has one id by whatever links it was reached; a run that is itself a link to
    # another disk has the id of the link.
    for top, directory in ((root.resolve(), path.resolve()), (_normal(root), _normal(path))):
        if directory.is_relative_to(top):
            return directory.relative_to(top).as_posix()
    raise UserError(f"{path}: it does not lie below {root}; give --root a directory above it")


def name_of(root: Path, relative: str) -> str:
    """Return what people call the run: its path below the root, as a terminal and a document can show it."""
    return printable(relative if relative != "." else root.resolve().name or "/")


def directory_of(root: Path, relative: str) -> Path:
    """Return the run directory of a path that `relative_path` returned."""
    return root / relative


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))
