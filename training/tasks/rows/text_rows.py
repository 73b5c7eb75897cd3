"""Plain text: a file is one document, read in pieces. No torch."""

from __future__ import annotations

from collections.abc import Generator

from training.errors import DataError
from training.tasks.rows.data_file import LONGEST_LINE, DataFile
from training.tasks.rows.source import Row

PIECE = 1 << 20
"""Bytes of a piece, more to its line's end: a file of any size is read in constant memory."""


def read_text(file: DataFile, before: int = 0) -> Generator[Row, None, int]:
    """Yield the pieces of a text file as rows {"text": …}, cut at line ends; all but the first go on with the document.

    Joined they are the file's text, its line ends as they are, without a mark of UTF-8 at the beginning.

    Raises:
        DataError: the file cannot be read, is empty or white space alone, is not UTF-8, or has a line of more than
            `LONGEST_LINE` bytes.
    """
    number = start = 0
    line = 1
    has_text = False
    with file.opened() as stream:
        while raw := stream.read(PIECE):
            if not raw.endswith(b"\n"):
                rest = stream.readline(LONGEST_LINE + 1)
                if len(rest) > LONGEST_LINE:
                    raise file.too_long(line + raw.count(b"\n"))
                raw += rest
            text = file.decoded(raw, start, line)
            if (zero := text.find("\0")) >= 0:
                place = line + text.count("\n", 0, zero)
                raise file.not_text(place, f"byte {start + raw.index(0):,} is 0x00, which no text has")
            has_text = has_text or bool(text.strip())
            if text:
                number += 1
                yield Row({"text": text}, before + number, continues=number > 1)
            start += len(raw)
            line += raw.count(b"\n")
    if not has_text:
        raise DataError(f"{file.path}: the file holds no text; fill it, or leave it out")
    return number
