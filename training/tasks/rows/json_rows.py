"""Rows of JSON Lines. No torch."""

from __future__ import annotations

import json
from collections.abc import Generator
from functools import partial

from training.errors import DataError
from training.storage.file_formats import JSON, JSON_LINES, TEXT
from training.tasks.rows.data_file import DataFile
from training.tasks.rows.source import Row
from training.tasks.rows.strict_json import StrictDecoder, row_of


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
            raise _not_json(file, number, line, error, is_first=not rows) from error
        if not rows and isinstance(value, list):
            raise DataError(f"{place()}: a list, so the file is one JSON document; let its name end with .json")
        yield Row(row_of(value, place), before + number)
        rows += 1
    if not rows:
        raise file.empty()
    return number


def _not_json(file: DataFile, number: int, line: str, error: json.JSONDecodeError, *, is_first: bool) -> DataError:
    """Return the error about a line that is no JSON, or about the format that the file has."""
    is_cut = error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated")
    if is_first:
        if is_cut and line.endswith("\n"):
            return DataError(
                f"{file.place(number)}: the object goes on after its line; write each object on one line, or, if the "
                "file is one JSON document, let its name end with .json"
            )
        found = file.other_format()
        if found not in (None, JSON, JSON_LINES, TEXT):
            assert found is not None
            return file.wrong_format(found)
    remedy = "the file seems to be cut short; fetch it again" if is_cut and not line.endswith("\n") else "repair it"
    return DataError(f"{file.place(number)}: not valid JSON at column {error.pos + 1:,} ({error.msg}); {remedy}")
