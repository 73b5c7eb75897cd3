"""Rows of JSON Lines, and of one JSON document that is walked and never held whole. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from functools import partial
from typing import BinaryIO

from training.errors import DataError
from training.storage.file_formats import JSON, JSON_LINES, TEXT, YAML
from training.storage.json_stream import JsonStream
from training.tasks.rows.data_file import LONGEST_LINE, DataFile
from training.tasks.rows.source import Row
from training.tasks.rows.strict_json import StrictDecoder, row_of, words_of


def read_json_lines(file: DataFile, before: int = 0) -> Generator[Row, None, int]:
    """Yield the rows of a JSON Lines file, one object a line; lines of white space are passed over but counted.

    Raises:
        DataError: the file cannot be read or holds no row; a line is not UTF-8, no JSON or no object.
    """
    decoder = StrictDecoder()
    number = rows = 0
    for line in file.lines():
        number += 1
        if not line.strip():
            continue
        place = partial(file.place, number)
        try:
            value = decoder.decode(line, place)
        except json.JSONDecodeError as error:
            raise _no_line_of_json(file, number, line, error, is_first=not rows) from error
        if not rows and isinstance(value, list):
            raise DataError(f"{place()}: a list, so the file is one JSON document; let its name end with .json")
        yield Row(row_of(value, place), before + number)
        rows += 1
    if not rows:
        raise file.empty()
    return number


def _no_line_of_json(
    file: DataFile, number: int, line: str, error: json.JSONDecodeError, *, is_first: bool
) -> DataError:
    """Return the error about a line that is no JSON, or about the format that the file has."""
    is_cut = error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated")
    if is_first:
        if is_cut and line.endswith("\n"):
            return DataError(
                f"{file.place(number)}: the object goes on after its line; write each object on one line, or, if the "
                "file is one JSON document, let its name end with .json"
            )
        if (other := _other_format(file)) is not None:
            return other
    remedy = "the file seems to be cut short; fetch it again" if is_cut and not line.endswith("\n") else "repair it"
    return DataError(f"{file.place(number)}: not valid JSON at column {error.pos + 1:,} ({error.msg}); {remedy}")


def _other_format(file: DataFile) -> DataError | None:
    """Return the error about a file that is no JSON at all but of another format; None: it may be JSON."""
    found = file.other_format()
    return None if found is None or found in (JSON, JSON_LINES, TEXT, YAML) else file.wrong_format(found)


def read_json(file: DataFile, before: int = 0) -> Generator[Row, None, int]:
    """Yield the rows of a JSON document: a list of objects, or an object in which exactly one list of objects is.

    A list is one of objects if its first item is an object. That a second one follows is known, and refused, after the
    rows of the first.

    Raises:
        DataError: the file cannot be read, is not UTF-8, no JSON or holds no row; an item of the list is no object.
    """
    if not file.packed and file.other_format() == JSON_LINES:
        raise _json_lines(file)
    with file.opened() as opened:
        stream = _Rows(opened, file)
        if stream.at("["):
            rows = yield from stream.rows(before, None)
        elif stream.at("{"):
            rows = yield from _rows_of_object(stream, file, before)
        else:
            raise _other_format(file) or DataError(
                f"{file.path}: no list and no object, and a JSON file of rows is a list of objects; write one"
            )
        stream.end()
    if not rows:
        raise file.empty()
    return rows


def _rows_of_object(stream: _Rows, file: DataFile, before: int) -> Generator[Row, None, int]:
    rows, found = 0, ""
    keys: list[str] = []
    for key in stream.members():
        keys.append(key)
        if not stream.at("["):
            stream.skip()
            continue
        more = yield from stream.rows(before, key, "" if not rows else found)
        rows, found = (more, key) if more else (rows, found)
    stream.end()
    if not rows:
        shown = ", ".join(map(repr, keys)) or "none"
        raise DataError(
            f'{file.path}: none of its keys ({shown}) holds a list of objects; give [{{"text": "…"}}, …] or '
            '{"data": [{"text": "…"}, …]}'
        )
    return rows


class _Rows(JsonStream):
    """Position in a JSON document of rows."""

    def __init__(self, opened: BinaryIO, file: DataFile) -> None:
        self._of = file
        self._row = 0
        """Number of the row that is read; 0: no row is yet."""
        self._strict = StrictDecoder()
        super().__init__(opened, _Faults(file, self._place), self._strict)

    def rows(self, before: int, key: str | None, other: str = "") -> Generator[Row, None, int]:
        """Yield the rows of the list that begins here.

        Args:
            before: rows before the first.
            key: its key in the document, under which another list may lie; None: the list is the document.
            other: key of a list of objects that was read before.

        Returns:
            The number of rows: 0 if it is empty, or under a key and of something else than objects.
        """
        number, file = 0, self._of
        is_of_rows = key is None
        for at, _ in enumerate(self.items()):
            if not at and self.at("{"):
                is_of_rows = True
            if not is_of_rows:
                self.skip()
                continue
            if other:
                raise DataError(
                    f"{file.path}: both {other!r} and {key!r} are lists of objects; keep the one that holds the rows"
                )
            self._row = number = at + 1
            place = partial(file.place, number)
            value = self.value()
            self._strict.check(value, self.source(), place)
            yield Row(row_of(value, place), before + number)
        return number

    def _place(self) -> str:
        return self._of.place(self._row) if self._row else str(self._of.path)

    def _read(self) -> bool:
        """Read more of the file, if the value that is read is not too large."""
        if len(self._text) - self._at > LONGEST_LINE:
            raise DataError(f"{self._place()}: more than {LONGEST_LINE // 2**20} MiB in one row; cut it into several")
        return super()._read()


class _Faults:
    """Errors about a JSON document of rows."""

    def __init__(self, file: DataFile, place: Callable[[], str]) -> None:
        self._file = file
        self._place = place

    def empty(self) -> DataError:
        return self._file.empty()

    def not_utf8(self, line: int, start: int, byte: int) -> DataError:
        return self._file.not_text(line, f"byte {start:,} is 0x{byte:02x}")

    def not_json(self, line: int, column: int, reason: str, *, at_end: bool) -> DataError:
        file = self._file
        if (line, column) == (1, 1) and (other := _other_format(file)) is not None:
            return other
        if reason == "Extra data":
            return _json_lines(file)
        remedy = "the file seems to be cut short; fetch it again" if at_end else "repair it"
        return DataError(f"{file.path}, line {line:,}: not valid JSON at column {column:,} ({reason}); {remedy}")

    def repeated_key(self, key: str) -> DataError:
        return DataError(
            f"{self._place()}: key {key!r} is given twice in one object; its first value would be lost; take one out"
        )

    def undecodable(self, error: RecursionError | ValueError) -> DataError:
        return DataError(f"{self._place()}: {words_of(error)}")


def _json_lines(file: DataFile) -> DataError:
    return DataError(
        f"{file.path}: more than one JSON document, as in JSON Lines; let the file's name end with .jsonl, or make one "
        "list of them"
    )
