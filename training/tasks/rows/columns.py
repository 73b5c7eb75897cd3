"""Columns of rows: found, and read with a check of what is there. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from training.errors import ConfigError, DataError, did_you_mean, printable, without_middle
from training.tasks.rows.source import Row, Source
from training.tasks.rows.strict_json import kind

TEXT_COLUMNS = ("text", "content")
"""Columns that are taken for the text without being asked for."""
_SHOWN = 60
"""Characters of a wrong value, and number of keys, that an error shows."""


def require(row: Row, key: str, source: Source) -> Any:
    """Return a row's value under a key.

    Raises:
        DataError: the row has no such key; names file, row, and the keys that it has.
    """
    try:
        return row.values[key]
    except KeyError:
        near = did_you_mean(key, row.values) or "; repair the row, or leave it out"
        keys = listed(row.values)
        raise DataError(f"{source.place(row.number)}: no {key!r}; its keys are {keys}{near}") from None


def text_of(row: Row, column: str, source: Source) -> str:
    """Return the text in a column of a row; it may be empty.

    Raises:
        DataError: the column is missing, or holds something else than a text.
    """
    value = require(row, column, source)
    if isinstance(value, str):
        return value
    raise DataError(f"{source.place(row.number)}: {column!r} must be a text, not {described(value)}; repair the row")


def find_text_column(first: Row, asked: str | None, source: Source, flag: str = "--text-column") -> str:
    """Return the column of the texts: the one that is asked for, else the only one of `TEXT_COLUMNS` that is there.

    Args:
        first: the source's first row.
        asked: the user's choice; None: there is none.
        source: the rows' source, for the error.
        flag: setting that chooses, for the error.

    Raises:
        ConfigError: the column that is asked for is not there, or none can be chosen for the user.
    """
    place = source.place(first.number)
    if asked is not None:
        if asked in first.values:
            return asked
        near = did_you_mean(asked, first.values) or f"; give one of them with {flag}"
        raise ConfigError(f"{flag} {asked}: {place} has no such key; its keys are {listed(first.values)}{near}")
    found = [name for name in TEXT_COLUMNS if name in first.values]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{place}: has {' and '.join(map(repr, found))}; say which is the text: {flag} {found[0]}")
    raise ConfigError(
        f"{place}: none of its keys is {' or '.join(map(repr, TEXT_COLUMNS))}; they are {listed(first.values)}; say "
        f"which is the text with {flag}"
    )


def described(value: object) -> str:
    """Name a value in an error: `null`, `a number (3)`, `a list ([1, 2])`."""
    return "null" if value is None else f"{kind(value)} ({without_middle(printable(repr(value)), _SHOWN)})"


def listed(keys: Iterable[str]) -> str:
    """Return keys for an error, as many as a line holds."""
    names = [repr(key) for key in keys]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) if names else "none"
