"""Code that runs as a user to whom the tests' files do not belong: root may read everything."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
NOBODY = 65534


def as_another_user(act: Callable[[], T]) -> T:
    """Return what a function returns that runs in a fork, which is root's no longer.

    Where the tests do not run as root, their own user is bound by permissions already.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(writing, pickle.dumps(act()))
        except BaseException:
            os.write(writing, pickle.dumps(AssertionError(traceback.format_exc())))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pickle.load(pipe)
    os.waitpid(child, 0)
    if isinstance(found, AssertionError):
        raise found
    result: T = found
    return result


def let_in(path: Path) -> None:
    """Let every user into the directories above a path, as below /home or /scratch, which pytest's own are not."""
    for directory in path.parents:
        if directory.stat().st_uid == os.geteuid() and directory != Path(directory.anchor):
            directory.chmod(directory.stat().st_mode | 0o055)
