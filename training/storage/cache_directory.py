"""The directory of what can be made again: it may be deleted at any time, and is never part of a result. No torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from training.errors import ConfigError, UserError
from training.storage.atomic import aside_of, delete
from training.storage.file_locks import NO_LOCKS, one_at_a_time
from training.storage.user_paths import path_of

T = TypeVar("T")

VARIABLE = "APT_TRAINER_CACHE"
"""The variable in which a user names another directory."""
REMEDY = f"set {VARIABLE} to a directory on a disk with room that you can write to"


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the cache directory, which need not exist: `$APT_TRAINER_CACHE`, else `~/.cache/apt-trainer`.

    `$XDG_CACHE_HOME`, if it is set, takes the place of `~/.cache`.

    Raises:
        ConfigError: no file can have this path, or there is no home.
    """
    if given := environment.get(VARIABLE):
        return path_of(f"{VARIABLE} in the environment:", given).absolute()
    shared = Path(environment.get("XDG_CACHE_HOME", ""))
    if not shared.is_absolute():  # to be ignored then, says the XDG specification
        try:
            shared = Path.home() / ".cache"
        except RuntimeError as error:
            raise ConfigError(f"no directory for the cache: this user has no home; {REMEDY}") from error
    return shared / "apt-trainer"


def read_or_make(
    directory: Path,
    read: Callable[[], T],
    make: Callable[[], None],
    damaged: type[UserError],
    note_damage: Callable[[UserError], None],
    what: str,
) -> T:
    """Return what a directory of the cache holds; make it first where it is not there or is damaged.

    If several processes ask at once, one of them makes it and the others wait.

    Args:
        directory: in the cache.
        read: reads all of it; raises `FileNotFoundError` where there is none, and `damaged` where it is not whole.
        make: writes all of it, in place of what is there.
        damaged: the error of `read` after which it is made again.
        note_damage: gets that error before it is made again.
        what: names the content in errors.

    Raises:
        UserError: the cache cannot be written; the message has the remedy.
    """
    with contextlib.suppress(FileNotFoundError, damaged):
        return read()
    with contextlib.ExitStack() as alone:
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            alone.enter_context(one_at_a_time(directory.with_name(f".{directory.name}.lock")))
            delete(aside_of(directory))  # a kill may have left it
        except OSError as error:
            raise unwritable(directory.parent, error, what) from error
        try:
            return read()  # another process has made it meanwhile
        except FileNotFoundError:
            pass
        except damaged as error:
            note_damage(error)
        make()
        return read()


def unwritable(directory: Path, error: OSError, what: str) -> UserError:
    """Return the error about a directory of the cache that the system refuses to write in."""
    why = "its disk has no file locks, " if error.errno in NO_LOCKS else ""
    return UserError(f"{directory}: {what} cannot be written ({why}{error.strerror}); {REMEDY}")
