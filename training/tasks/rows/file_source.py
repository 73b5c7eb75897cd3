"""Rows of one or several files of one format. No torch."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from training.errors import DataError
from training.tasks.rows.data_file import DataFile, Reader, digest_of
from training.tasks.rows.source import Row, Source


class FileSource(Source):
    """Rows of files, one file after the other, numbered through all of them.

    Args:
        name: as the user gave it.
        files: at least one, of one format.
        read: reader of that format.
    """

    def __init__(self, name: str, files: Sequence[DataFile], read: Reader) -> None:
        self.name = name
        self.kind = files[0].kind
        self._files = files
        self._read = read
        self._before: list[int] = []
        """Rows before each file, as far as the files were read."""
        self._reached = 0
        """Largest number of a row that was read."""

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all files."""
        before = 0
        for index, file in enumerate(self._files):
            if index == len(self._before):
                self._before.append(before)
            before += yield from self._counted(self._read(file, before))

    def _counted(self, rows: Generator[Row, None, int]) -> Generator[Row, None, int]:
        if len(self._files) == 1:
            return (yield from rows)
        while True:
            try:
                row = next(rows)
            except StopIteration as end:
                return int(end.value)
            self._reached = max(self._reached, row.number)
            yield row

    def place(self, number: int) -> str:
        """Return file and row; of a row that was not read from several files, its number in all of them together."""
        if len(self._files) == 1:
            return self._files[0].place(number)
        if not 0 < number <= self._reached:
            return f"{self.name}, row {number:,} of its files together"
        at = bisect_left(self._before, number) - 1
        return self._files[at].place(number - self._before[at])

    def files(self) -> Sequence[Path]:
        """Return the files."""
        return [file.path for file in self._files]

    def fingerprint(self) -> str:
        """Return a hash of every file's content and the format; 1 GB takes about two seconds."""
        packed = self._files[0].packed
        digest = hashlib.blake2b(f"{self.kind}\x1f{packed}".encode(), digest_size=16)
        for file in self._files:
            digest.update(digest_of(file.path))
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        try:
            return sum(file.path.stat().st_size for file in self._files)
        except OSError as error:
            raise DataError(f"{self.name}: the data cannot be read ({error.strerror})") from error
