"""Paths as users write them: `~` is their home, and what no file can be named is refused before anything is done."""

from __future__ import annotations

import errno
from pathlib import Path

from training.errors import ConfigError


def user_path(given: str | Path) -> Path:
    """Return a path of a user's, with `~` and `~name` expanded.

    Raises:
        ValueError: no file can have this path; says why.
    """
    if not isinstance(given, str | Path):
        raise ValueError(f"is a {type(given).__name__}; give a path")
    text = str(given)
    if not text:
        raise ValueError("is empty; give a path")
    if "\0" in text:
        raise ValueError("no file can have this path (it has a null byte)")
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no user {Path(given).parts[0][1:]!r} on this machine") from error
    try:
        path.stat()
    except OSError as error:  # missing, or hidden from this user: the matter of whoever opens it
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise ValueError(f"{error.strerror}; choose another name") from error
    except ValueError as error:  # such as a lone surrogate that is no byte of a name
        raise ValueError("no file can have this path (it is no text of this system's file names)") from error
    return path


def path_of(what: str, given: str | Path) -> Path:
    """Return a path of a user's, as `user_path`.

    Args:
        what: what names the path, such as a flag; begins the error line.
        given: as the user wrote it.

    Raises:
        ConfigError: no file can have this path.
    """
    try:
        return user_path(given)
    except ValueError as error:
        raise ConfigError(f"{what} {given}: {error}") from error
