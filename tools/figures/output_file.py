"""Files that a tool writes for its user: refused early, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

from training.errors import UserError

BEGINNINGS = {".png": b"\x89PNG", ".gif": b"GIF8", ".json": b"{"}
"""Ending of a name -> how every such file begins: one that begins otherwise is something else of the user's."""


def check_writable(flag: str, path: Path | None, endings: Sequence[str] = (), beginning: bytes | None = None) -> None:
    """Refuse an output path before hours of work, not after.

    Args:
        flag: the flag that named the path, for the message.
        path: the file to be written; None passes: the flag was not given.
        endings: suffixes that the file may have, in lower case (`.png`); empty: any.
        beginning: first bytes of an earlier output, which is replaced; None: those of its ending (`BEGINNINGS`).

    Raises:
        UserError: the path ends in something else, is a directory or a device, holds something else, may not be
            written, or its folder is missing or read-only.
    """
    if path is None:
        return
    if endings and path.suffix.lower() not in endings:
        raise UserError(f"{flag} {path}: give a name that ends in {' or '.join(endings)}")
    try:
        is_directory, has_folder = path.is_dir(), path.parent.is_dir()
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}; choose another name") from error
    if is_directory:
        raise UserError(f"{flag} {path}: this is a directory; name a file in it")
    if not has_folder:
        raise UserError(f"{flag} {path}: there is no folder {path.parent}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{flag} {path}: the folder {path.parent} cannot be written to; choose another")
    if path.exists():
        _check_replaceable(flag, path, BEGINNINGS.get(path.suffix.lower(), b"") if beginning is None else beginning)


def _check_replaceable(flag: str, path: Path, beginning: bytes) -> None:
    if not path.is_file():
        raise UserError(f"{flag} {path}: this is no regular file (a pipe or a device); choose another name")
    if not os.access(path, os.W_OK):
        raise UserError(f"{flag} {path}: this file is write-protected; choose another name")
    try:
        with path.open("rb") as file:
            found = file.read(len(beginning))
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}; choose another name") from error
    if found and found != beginning:
        raise UserError(f"{flag} {path}: this file is not an earlier output and would be lost; choose another name")


def write_atomically(path: Path, content: bytes | Iterable[str]) -> None:
    """Write a file whole or not at all: readers see the old file or the new one.

    Args:
        path: the file; one that is there is replaced.
        content: the bytes, or pieces of text that are written as UTF-8 as they come, in constant memory.

    Raises:
        UserError: the disk is full or refuses.
    """
    pieces = [content] if isinstance(content, bytes) else (piece.encode() for piece in content)
    try:
        # Two tools may write the same file at a time. Not `tempfile`: its files are for their owner's eyes alone.
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.writelines(pieces)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the file could not be written ({error.strerror}); choose another place") from error
