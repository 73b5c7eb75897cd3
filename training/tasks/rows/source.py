"""A row of somebody's training data, and a source of rows: something on this machine or on the Hub. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One row: a JSON object, a line of a table, a piece of a text file."""

    values: Mapping[str, Any]
    number: int
    """Number in its source, from 1; of a `.jsonl` file the number of its line. `Source.place` makes words of it."""
    continues: bool = False
    """This piece goes on with the document of the row before; only pieces of text files do."""


class Source(ABC):
    """Rows of training data under one name, read from the start as often as `rows` is called, never held whole."""

    name: str
    """Name as the user gave it."""
    kind: str
    """Name of the format, as users know it: `JSON Lines`."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield the rows in their order; at least one.

        Raises:
            DataError: the data cannot be read, or holds no row; the message names file and row. A fault inside a file
                is reported when it is reached.
        """

    @abstractmethod
    def place(self, number: int) -> str:
        """Return file and row of a row's number, to begin an error: `chats.jsonl, line 70,000`."""

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Return the local files that hold the data, so that they can be copied; none for a name on the Hub."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return 32 hex digits of the content and its format, whatever the files are called.

        Raises:
            DataError: the data cannot be read.
        """

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes of the data as it lies on the disk, packed or not.

        Raises:
            DataError: the data cannot be read.
        """
