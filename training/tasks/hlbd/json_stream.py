"""Reading of an HLBD file piece by piece, with faults in the words of `training.tasks.hlbd.files`. No torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from training.errors import DataError
from training.storage.json_stream import CHUNK, JsonStream
from training.tasks.hlbd.files import not_json, not_utf8, object_without_repeats, repeated_key, undecodable


class HLBDStream(JsonStream):
    """Position in an HLBD file.

    Args:
        file: the file, open at its beginning.
        path: the file's path.
        chunk: bytes that are read at a time.
    """

    def __init__(self, file: BinaryIO, path: Path, chunk: int) -> None:
        self.path = path
        decoder = json.JSONDecoder(object_pairs_hook=object_without_repeats(path))
        super().__init__(file, _Faults(path), decoder, chunk)


@contextlib.contextmanager
def hlbd_stream(path: Path, chunk: int = CHUNK) -> Iterator[HLBDStream]:
    """Open an HLBD file in a `with` block, at the beginning of its document.

    Raises:
        DataError: (also while it is read) the file is unreadable, not UTF-8 or not JSON, or has a key twice in an
            object.
    """
    try:
        with path.open("rb") as file:
            yield HLBDStream(file, path, chunk)
    except OSError as error:
        raise DataError(f"{path}: the data file cannot be read ({error.strerror})") from error


class _Faults:
    """Errors of `training.tasks.hlbd.files` about a file that is read as a stream."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def empty(self) -> DataError:
        return DataError(f"{self._path}: the data file is empty")

    def not_utf8(self, line: int, start: int, byte: int) -> DataError:
        return not_utf8(self._path, start, byte)

    def not_json(self, line: int, column: int, reason: str, *, at_end: bool) -> DataError:
        return not_json(self._path, line, column, reason, at_end=at_end)

    def repeated_key(self, key: str) -> DataError:
        return repeated_key(self._path, key)

    def undecodable(self, error: RecursionError | ValueError) -> DataError:
        return undecodable(self._path, error)
