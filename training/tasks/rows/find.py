"""Names that users give for their training data, and the sources behind them. No torch."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import NamedTuple

from training.errors import DataError
from training.storage.user_paths import user_path
from training.tasks.rows.data_file import DataFile, Reader
from training.tasks.rows.file_source import FileSource
from training.tasks.rows.json_rows import read_json_lines
from training.tasks.rows.source import Source
from training.tasks.rows.text_rows import read_text

PACKED = ".gz"


class Format(NamedTuple):
    """A format of files of rows."""

    name: str
    noun: str
    """Name of a row in an error."""
    read: Reader


_TEXT = Format("plain text", "piece", read_text)
_JSON_LINES = Format("JSON Lines", "line", read_json_lines)
FORMATS = {".txt": _TEXT, ".jsonl": _JSON_LINES, ".ndjson": _JSON_LINES}
"""Ending of a file's name, in small letters -> its format."""


def find_source(name: str | Path, flag: str = "--datasets") -> Source:
    """Find the training data that a user means: a file on this machine.

    Args:
        name: path of a file.
        flag: setting that it comes from, for errors.

    Raises:
        DataError: there is no such data, or nothing can read it.
    """
    try:
        path = user_path(name)
        is_file, is_there = path.is_file(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{flag} {name}: {getattr(error, 'strerror', None) or error}") from error
    if is_file:
        return FileSource(str(name), [data_file(path)], format_of_name(path).read)
    if is_there:
        raise DataError(f"{flag} {name}: this is no regular file (a pipe or a device); save the data in a file")
    raise _missing(path, flag)


def format_of_name(path: Path) -> Format:
    """Return the format that a file's name tells.

    Raises:
        DataError: it tells none.
    """
    suffix, _ = _suffix(path)
    if suffix in FORMATS:
        return FORMATS[suffix]
    has = f"{suffix!r} is no ending of a file of rows" if suffix else "the name has no ending that tells the format"
    raise DataError(f"{path}: {has}; give one that ends with {', '.join(FORMATS)}, also packed as .gz")


def data_file(path: Path) -> DataFile:
    """Return the data file at a path.

    Raises:
        DataError: its name tells no format.
    """
    found = format_of_name(path)
    return DataFile(path, found.name, found.noun, packed=_suffix(path)[1])


def _suffix(path: Path) -> tuple[str, bool]:
    """Return the ending that tells the format, in small letters, and True if the file is packed."""
    packed = path.suffix.lower() == PACKED
    return (Path(path.stem) if packed else path).suffix.lower(), packed


def _missing(path: Path, flag: str) -> DataError:
    """Return the error about a file that is not there, with the nearest name beside it."""
    try:
        names = sorted(one.name for one in path.parent.iterdir())
    except OSError:
        return DataError(f"{flag} {path}: no such file, for there is no directory {path.parent}; check the path")
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    hint = f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path"
    return DataError(f"{flag} {path}: no such file; {hint}")
