"""Names that users give for their training data, and the sources behind them. No torch."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import NamedTuple

from training.errors import DataError
from training.storage.user_paths import user_path
from training.tasks.rows.data_file import DataFile, Reader
from training.tasks.rows.datasets_rows import HubDataset, SavedDataset, is_saved_dataset
from training.tasks.rows.file_source import FileSource
from training.tasks.rows.json_rows import read_json, read_json_lines
from training.tasks.rows.source import Source
from training.tasks.rows.tables import read_csv, read_parquet, read_tsv
from training.tasks.rows.text_rows import read_text

PACKED = ".gz"
_NO_DATA = (".md", ".gitattributes", ".gitignore")
"""Endings of files that are found among data and are none."""
_SHOWN = 10
"""Number of names that an error lists."""


class Format(NamedTuple):
    """A format of files of rows."""

    name: str
    row: str
    """Name of a row in an error, with a place for its number."""
    read: Reader
    can_be_packed: bool = True


_JSON_LINES = Format("JSON Lines", "line {:,}", read_json_lines)
FORMATS = {
    ".txt": Format("plain text", "piece {:,}", read_text),
    ".jsonl": _JSON_LINES,
    ".ndjson": _JSON_LINES,
    ".json": Format("JSON", "row {:,}", read_json),
    ".csv": Format("CSV", "row {:,} below the header", read_csv),
    ".tsv": Format("a table with tabs", "row {:,} below the header", read_tsv),
    ".parquet": Format("Parquet", "row {:,}", read_parquet, can_be_packed=False),
}
"""Ending of a file's name, in small letters -> its format."""


def find_source(name: str | Path, flag: str = "--datasets") -> Source:
    """Find the training data that a user means.

    It is, in this order: a file of one of `FORMATS`, perhaps packed (`.gz`); a directory that `datasets.save_to_disk`
    wrote; a directory of files of one format; a name on the Hub (`OWNER/NAME`, `OWNER/NAME:SPLIT`), which is
    asked for only when the source is used.

    Args:
        name: path or name.
        flag: setting that it comes from, for errors.

    Raises:
        DataError: there is no such data, or nothing can read it.
    """
    try:
        path = user_path(name)
        is_file, is_directory, is_there = path.is_file(), path.is_dir(), path.exists()
    except (OSError, ValueError) as error:
        raise DataError(f"{flag} {name}: {getattr(error, 'strerror', None) or error}") from error
    if is_file:
        return FileSource(str(name), [data_file(path)], _format_of_name(path).read)
    if is_directory:
        return SavedDataset(str(name), path) if is_saved_dataset(path) else _directory_of_files(str(name), path)
    if is_there:
        raise DataError(f"{flag} {name}: this is no regular file (a pipe or a device); save the data in a file")
    if _may_be_on_the_hub(str(name)):
        return HubDataset(str(name), _nearest(path))
    raise _missing(path, flag)


def data_file(path: Path) -> DataFile:
    """Return the data file at a path.

    Raises:
        DataError: its name tells no format.
    """
    found = _format_of_name(path)
    return DataFile(path, found.name, found.row, packed=path.suffix.lower() == PACKED)


def _format_of_name(path: Path) -> Format:
    suffix, packed = _suffix(path)
    found = FORMATS.get(suffix)
    if found is not None and packed and not found.can_be_packed:
        raise DataError(f"{path}: {found.name} is packed by itself; unpack it first (gunzip)")
    if found is not None:
        return found
    has = f"{suffix!r} is no ending of a file of rows" if suffix else "the name has no ending that tells the format"
    raise DataError(f"{path}: {has}; give a file that ends with {_ENDINGS}")


_ENDINGS = f"{', '.join(FORMATS)}, those of text also packed as {PACKED}"


def _suffix(path: Path) -> tuple[str, bool]:
    """Return the ending that tells the format, in small letters, and True if the file is packed."""
    packed = path.suffix.lower() == PACKED
    return (Path(path.stem) if packed else path).suffix.lower(), packed


def _directory_of_files(name: str, directory: Path) -> FileSource:
    """Return the files of a directory, sorted by name.

    Hidden files, those that begin with `_` (`_SUCCESS`), and READMEs are passed over; anything else must be data, so
    that no part of it is left out unseen.
    """
    try:
        entries = sorted(path for path in directory.iterdir() if not path.name.startswith((".", "_")))
    except OSError as error:
        raise DataError(f"{name}: the directory cannot be read ({error.strerror}); check its rights") from error
    folders = [path.name for path in entries if path.is_dir()]
    files = [path for path in entries if not path.is_dir() and path.suffix.lower() not in _NO_DATA]
    if folders:
        raise DataError(
            f"{name}: holds directories ({_listed(folders)}); give one of them, or a directory of files alone"
        )
    if not files:
        raise DataError(f"{name}: no data files in this directory; put there files that end with {_ENDINGS}")
    for path in files:
        if not path.is_file():
            what = "a link that leads nowhere" if path.is_symlink() and not path.exists() else "a pipe or a device"
            raise DataError(f"{path}: this is no regular file ({what}); take it out of {name}")
        if _suffix(path)[0] not in FORMATS:
            raise DataError(
                f"{path}: beside the data of {name}, but no data itself; give a directory of files that end "
                f"with {_ENDINGS}"
            )
    endings = sorted({"".join([_suffix(path)[0], PACKED * _suffix(path)[1]]) for path in files})
    if len(endings) > 1:
        raise DataError(
            f"{name}: files of several formats ({', '.join(endings)}: {_listed([path.name for path in files])}); put "
            "those of each into a directory of their own"
        )
    return FileSource(name, [data_file(path) for path in files], _format_of_name(files[0]).read)


def _may_be_on_the_hub(name: str) -> bool:
    """Return True for OWNER/NAME and OWNER/NAME:SPLIT that do not look like the path of a file."""
    path = Path(name.partition(":")[0])
    is_of_two_parts = len(path.parts) == 2 and name.count("/") == 1 and not name.startswith(("/", ".", "~"))
    return is_of_two_parts and _suffix(path)[0] not in FORMATS and path.suffix.lower() != PACKED


def _missing(path: Path, flag: str) -> DataError:
    """Return the error about a file that is not there, with the nearest name in its directory."""
    if not path.parent.is_dir():
        return DataError(f"{flag} {path}: no such file, for there is no directory {path.parent}; check the path")
    return DataError(f"{flag} {path}: no such file; {_nearest(path) or 'check the path'}")


def _nearest(path: Path) -> str:
    """Return the name in the same directory that is nearest, as a question; empty: none is near."""
    try:
        names = sorted(one.name for one in path.parent.iterdir() if one.exists())
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    return f"did you mean {str(path.parent / near[0])!r}?" if near else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
