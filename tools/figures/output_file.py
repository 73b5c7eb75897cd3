"""Files that a tool writes for its user: refused early, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from training.errors import UserError


def check_writable(flag: str, path: Path) -> None:
    """Refuse an output path before hours of work, not after.

    Raises:
        UserError: it is a directory, or its folder is missing or read-only.
    """
    if path.is_dir():
        raise UserError(f"{flag} {path}: this is a directory; name a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{flag} {path}: there is no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{flag} {path}: the folder {path.parent} cannot be written to; choose another")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: the disk is full or refuses.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            temporary.chmod(0o644)  # mkstemp makes files that only their owner can read
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the file could not be written ({error.strerror}); choose another place") from error
