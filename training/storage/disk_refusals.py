"""One clear line, instead of a traceback, for a disk that is full, read-only or gone while something is saved."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from training.errors import UserError
from training.storage.atomic import aside_of, delete, put_back, temporary_of


@contextlib.contextmanager
def disk_refusals(
    path: Path,
    what: str = "the checkpoint",
    remedy: str = "earlier checkpoints are intact: make room and go on with --resume",
) -> Iterator[None]:
    """Guard a block in which `temporary_of(path)` is written and becomes `path`: if the disk refuses, all is as before.

    Args:
        path: the file or directory that is written.
        what: name of it in the message.
        remedy: end of the message.

    Raises:
        UserError: with the disk's reason and its free space.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            delete(temporary_of(path))
            if aside_of(path).exists():
                put_back(aside_of(path))
        said = _what_the_disk_said(error)
        if said is None:
            raise
        if not path.parent.exists():
            raise UserError(
                f"{path}: it could not be written: its directory was removed or renamed while the run was at work; the "
                "run ends here: if it was renamed, give --resume its new name"
            ) from error
        free = shutil.disk_usage(path.parent).free
        raise UserError(
            f"{path}: {what} could not be written ({said}; {free / 2**20:.0f} MiB free); {remedy}"
        ) from error


def _what_the_disk_said(error: Exception) -> str | None:
    """Return the system's own words; None: the error does not come from the disk."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, SafetensorError):  # "Error while serializing: I/O error: No space left … (os error 28)"
        found = re.search(r"I/O error: (.*?) \(os error \d+\)", str(error))
        return found[1] if found else None
    # torch.save raises a RuntimeError of its own while it handles the system's, or in its place.
    if isinstance(error.__context__, OSError):
        return error.__context__.strerror
    return str(error).splitlines()[0] if "write" in str(error) else None
