"""A data file: opened, unpacked and decoded, with the errors that all formats share. No torch."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from training.errors import DataError
from training.storage.file_formats import FileFormat, format_of
from training.storage.json_files import open_regular
from training.tasks.rows.source import Row

LONGEST_LINE = 64 * 2**20
"""Bytes of the longest line, and of the longest cell of a table: no row that a model can learn from is longer."""
_POINTER = b"version https://git-lfs"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class DataFile:
    """A file of rows."""

    path: Path
    kind: str
    """Name of its format: `JSON Lines`."""
    row: str
    """Name of a row in an error, with a place for its number: `line {:,}`."""
    packed: bool = False
    """The file is packed with gzip."""

    def place(self, number: int) -> str:
        """Return where a row is, to begin an error: `chats.jsonl, line 70,000`."""
        return f"{self.path}, {self.row.format(number)}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the file to read its bytes, unpacked, in a `with` block, whose errors of reading become one line.

        Raises:
            DataError: it cannot be read or unpacked, is empty, or is a pointer that Git LFS left in its place.
        """
        try:
            file = open_regular(self.path)
        except OSError as error:
            raise unreadable(self.path, error) from error
        with file:
            try:
                if (head := file.read(len(_POINTER))) == _POINTER:
                    raise DataError(f"{self.path}: a pointer of Git LFS, not the data; run `git lfs pull` for the file")
                if not head:
                    raise self.empty()
                file.seek(0)
                yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if self.packed else file
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DataError(
                    f"{self.path}: it cannot be unpacked ({str(error).rstrip('.')}): it is cut short, damaged or no "
                    "gzip; fetch it again, or take .gz from its name"
                ) from error
            except OSError as error:
                raise unreadable(self.path, error) from error

    def lines(self) -> Iterator[str]:
        """Yield every line with its line end, without a mark of UTF-8 at the beginning.

        Raises:
            DataError: the file cannot be read, a line is not UTF-8 or too long.
        """
        with self.opened() as file:
            number = start = 0
            while raw := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(raw) > LONGEST_LINE:
                    raise self.too_long(number)
                yield self.decoded(raw, start, number)
                start += len(raw)

    def decoded(self, raw: bytes, start: int, line: int) -> str:
        """Return the text of bytes that begin at byte `start` of the file, which is in line `line`.

        Raises:
            DataError: they are not UTF-8; names the byte, and the format that the file has.
        """
        if not start:
            raw, start = (raw[len(_BOM) :], len(_BOM)) if raw.startswith(_BOM) else (raw, 0)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            line += raw.count(b"\n", 0, error.start)
            what = f"byte {start + error.start:,} is 0x{raw[error.start]:02x}"
            raise self.not_text(line, what) from error

    def not_text(self, line: int, what: str) -> DataError:
        """Return the error about bytes that are no text of UTF-8, or about the format that the file has.

        Args:
            line: number of the line, from 1.
            what: the byte and its place.
        """
        found = self.other_format()
        if found is not None and not found.name.startswith("text in "):
            return self.wrong_format(found)
        encoding = "UTF-16" if found else "ENCODING"
        guess = "" if found else " (ENCODING is often GB18030, BIG5, SHIFT_JIS or WINDOWS-1252)"
        unpacked = " of the unpacked text" if self.packed else ""
        return DataError(
            f"{self.path}, line {line:,}: not UTF-8 text ({what}{unpacked}); convert it: "
            f"iconv -f {encoding} -t UTF-8 {self.path.name} > utf8-{self.path.name}{guess}"
        )

    def other_format(self) -> FileFormat | None:
        """Return the format that the beginning of the file shows; None: it is unknown, or packed as its name says."""
        return None if self.packed else format_of(self.path)

    def wrong_format(self, found: FileFormat) -> DataError:
        """Return the error about a file that has another format than its name says."""
        return DataError(
            f"{self.path}: its name says {self.kind}, but it is {found.name}; give it the ending of its format, or "
            "fetch it again"
        )

    def too_long(self, line: int) -> DataError:
        """Return the error about a line of more than `LONGEST_LINE` bytes."""
        return DataError(
            f"{self.path}, line {line:,}: more than {LONGEST_LINE // 2**20} MiB without a line end; put each row on a "
            "line of its own, or cut a text into lines (fold -s -w 10000)"
        )

    def empty(self) -> DataError:
        """Return the error about a file without a row."""
        return DataError(f"{self.path}: the file holds no rows; fill it, or leave it out")


def digest_of(path: Path) -> bytes:
    """Return 32 bytes of BLAKE2b of a file as it lies on the disk, read in pieces.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(cast(io.BufferedReader, file), lambda: hashlib.blake2b(digest_size=32)).digest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error about a file that the system did not let us read."""
    return DataError(f"{path}: the data file cannot be read ({error.strerror or error}); check its rights")


Reader = Callable[[DataFile, int], Generator[Row, None, int]]
"""Read a file: yield its rows, numbered from the given number plus one, and return how many numbers it took."""
