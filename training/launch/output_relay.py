"""Output of one process, passed on by another through files, at most a few megabytes of them. No torch.

The writer appends to NAME.0; when that is full it goes on in NAME.1, and so on. The reader deletes a file once it has
passed it on and the next one has begun. A pipe would be shorter, but a writer whose reader was killed could not go on,
and it does not reach across machines that share a directory.
"""

from __future__ import annotations

import codecs
import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FILE_BYTES = 2**20
"""A file is full from here on. A progress bar writes about a hundred of them in a day."""


def _file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


class _RelayFiles(io.RawIOBase):
    """The writer's end, in bytes.

    Args:
        path: NAME.
        descriptor: the one that child processes get as this stream.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._number = self._written = 0
        self._open_file = self._open()

    def _open(self) -> int:
        return os.open(_file(self._path, self._number), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: ReadableBuffer, /) -> int:
        if self._written >= FILE_BYTES:
            os.close(self._open_file)
            self._number, self._written = self._number + 1, 0
            self._open_file = self._open()
        written = os.write(self._open_file, data)
        self._written += written
        return written


def relay_writer(path: Path, encoding: str, descriptor: int) -> io.TextIOWrapper:
    """Return a stream to print to, line buffered: it also passes on a progress bar, whose lines end in \\r.

    Args:
        path: place where the reader looks for it.
        encoding: of the text; other characters are escaped.
        descriptor: the file descriptor that stands for the stream where only those count, as in child processes.
    """
    raw: Any = _RelayFiles(path, descriptor)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", newline="", line_buffering=True)


class RelayReader:
    """Passes the text of a writer on to a stream.

    Args:
        path: as the writer's; it need not have begun.
        encoding: as the writer's.
        stream: target of the text.
    """

    def __init__(self, path: Path, encoding: str, stream: IO[str]) -> None:
        self._path = path
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._number = 0
        self._file: IO[bytes] | None = None

    def copy(self) -> None:
        """Pass on the text that is new."""
        while self._is_open():
            assert self._file is not None
            is_full = _file(self._path, self._number + 1).exists()  # asked before reading: then nothing is missed
            if new := self._file.read():
                self._stream.write(self._decoder.decode(new))
                self._stream.flush()
            if not is_full:
                return
            self.close()
            _file(self._path, self._number).unlink()
            self._number += 1

    def _is_open(self) -> bool:
        if self._file is None:
            try:
                self._file = _file(self._path, self._number).open("rb")
            except FileNotFoundError:
                return False
        return True

    def close(self) -> None:
        """Close the file that is being read."""
        if self._file is not None:
            self._file.close()
            self._file = None
