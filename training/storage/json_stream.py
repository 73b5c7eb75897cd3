"""Reading of a JSON file piece by piece: big objects and lists are walked, their members are parsed whole. No torch.

Python's `json` reads a document whole. Here only one member at a time is in memory, parsed by `json` itself. Who reads
says in its own words what is wrong: `JsonFaults`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from training.errors import UserError

CHUNK = 1 << 16
"""Bytes that are read at a time; more if one value is larger."""
_NEAR_END = 16
"""Distance from the buffer's end, in characters, within which a fault may be a value cut in two (`-Infin` + `ity`)."""
_SPACE = re.compile(r"[ \t\n\r]*")


class JsonFaults(Protocol):
    """Errors of a reader about a file, each as one line that names it."""

    def empty(self) -> UserError:
        """Return the error about a file without a document."""
        ...

    def not_utf8(self, line: int, start: int, byte: int) -> UserError:
        """Return the error about the first byte that is not UTF-8: its line, from 1, and its place in the file."""
        ...

    def not_json(self, line: int, column: int, reason: str, *, at_end: bool) -> UserError:
        """Return the error about the first place that is not JSON, from 1; `at_end`: it is at the end of the file."""
        ...

    def repeated_key(self, key: str) -> UserError:
        """Return the error about a key that is given twice in one object."""
        ...

    def undecodable(self, error: RecursionError | ValueError) -> UserError:
        """Return the error about JSON that is nested too deeply, or about a number too long to read."""
        ...


class Decoder(Protocol):
    """A `json.JSONDecoder`, or what decodes in its place."""

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        """Return the value that begins at `idx`, and where it ends."""
        ...


class JsonStream:
    """Position in an open JSON file, which only moves forward.

    Walk with `members` and `items`; take the value at the position with `value`, or pass over it with `skip`. A value
    that is cut short at the end of the file is read to that end before it is refused.

    Args:
        file: file open at its beginning; a mark of UTF-8 there is passed over.
        faults: the reader's errors.
        decoder: decoder of values.
        chunk: bytes that are read at a time; more if one value is larger.

    Raises:
        UserError: (any method) one of `faults`.
    """

    def __init__(self, file: BinaryIO, faults: JsonFaults, decoder: Decoder, chunk: int = CHUNK) -> None:
        self._file = file
        self._faults = faults
        self._decoder = decoder
        self._chunk = chunk
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._taken = 0
        """Begin of the value that was taken last."""
        self._bytes = 0
        self._line, self._column = 1, 1
        """Line and column of the first character of `_text`."""
        self._ended = False
        while not self._text and self._read():
            pass
        self._text = self._text.removeprefix("\ufeff")
        if not self._peek():
            raise faults.empty()

    # -- walking -----------------------------------------------------------------------------------------------------

    def at(self, bracket: str) -> bool:
        """Return True if an object (`{`) or a list (`[`) begins here."""
        return self._peek() == bracket

    def members(self) -> Iterator[str]:
        """Yield the keys of the object that begins here. Take or skip each value before asking for the next key."""
        keys: set[str] = set()
        for _ in self._inside("{", "}"):
            if self._peek() != '"':
                raise self._fault("Expecting property name enclosed in double quotes")
            key = self.value()
            if key in keys:
                raise self._faults.repeated_key(key)
            keys.add(key)
            if self._peek() != ":":
                raise self._fault("Expecting ':' delimiter")
            self._at += 1
            yield key

    def items(self) -> Iterator[None]:
        """Yield once for each item of the list that begins here. Take or skip each item before asking for the next."""
        yield from self._inside("[", "]")

    def _inside(self, opening: str, closing: str) -> Iterator[None]:
        assert self._peek() == opening
        self._at += 1
        if self._peek() == closing:
            self._at += 1
            return
        while True:
            yield
            following = self._peek()
            if following not in (",", closing):
                raise self._fault("Expecting ',' delimiter")
            self._at += 1
            if following == closing:
                return
            if self._peek() == closing:
                raise self._fault("Expecting value" if closing == "]" else "Expecting property name")

    def value(self) -> Any:
        """Return the value at this position, as `json` reads it."""
        self._peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                ahead = error.pos - self._at  # reading moves the buffer
                may_go_on = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _NEAR_END
                if not (may_go_on and self._read()):
                    self._at += ahead
                    raise self._fault(error.msg) from error
            except (RecursionError, ValueError) as error:
                raise self._faults.undecodable(error) from error
            else:
                ahead = end - self._at
                if not self._may_be_cut(found, end) or not self._read():
                    self._taken = self._at
                    self._at += ahead
                    return found

    def source(self) -> str:
        """Return the JSON of the value that was taken last, before anything else is done."""
        return self._text[self._taken : self._at]

    def _may_be_cut(self, found: object, end: int) -> bool:
        """Return True if a number may continue after the buffer: `1` of `12`, of `1.5`, of `1e9`."""
        if not isinstance(found, int | float) or end < len(self._text) - _NEAR_END:
            return False
        return end == len(self._text) or self._text[end] in ".eE+-"

    def skip(self, depth: int = 3) -> None:
        """Pass over the value at this position; values deeper than `depth` are parsed whole on the way."""
        if depth and self.at("{"):
            for _ in self.members():
                self.skip(depth - 1)
        elif depth and self.at("["):
            for _ in self.items():
                self.skip(depth - 1)
        else:
            self.value()

    def end(self) -> None:
        """Refuse any further content."""
        if self._peek():
            raise self._fault("Extra data")

    # -- reading -----------------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        """Return the next character that is not white space, or "" at the end of the file."""
        while True:
            found = _SPACE.match(self._text, self._at)
            assert found is not None
            self._at = found.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                return ""

    def _read(self) -> bool:
        """Read more of the file, and forget the part that was passed; return False at the end of the file."""
        if self._ended:
            return False
        passed = self._text[: self._at]
        if lines := passed.count("\n"):
            self._line += lines
            self._column = len(passed) - passed.rfind("\n")
        else:
            self._column += len(passed)
        rest = self._text[self._at :]
        self._at = 0
        # A value larger than a chunk is parsed from its start again, with twice as much text each time, so the cost is
        # low.
        data = self._file.read(max(self._chunk, len(rest)))
        self._ended = not data
        waiting = len(self._utf8.getstate()[0])
        try:
            self._text = rest + self._utf8.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            line = self._line + rest.count("\n") + error.object.count(b"\n", 0, error.start)
            start = self._bytes - waiting + error.start
            raise self._faults.not_utf8(line, start, error.object[error.start]) from error
        self._bytes += len(data)
        return not self._ended

    def _fault(self, reason: str) -> UserError:
        """Return the error about this position."""
        before = self._text[: self._at]
        lines = before.count("\n")
        column = len(before) - before.rfind("\n") if lines else self._column + len(before)
        at_end = reason.startswith("Unterminated") or (not self._text[self._at + 1 :].strip() and not self._more())
        return self._faults.not_json(self._line + lines, column, reason, at_end=at_end)

    def _more(self) -> bool:
        """Return True if anything but white space follows the buffer."""
        while not self._ended:
            data = self._file.read(self._chunk)
            if not data:
                return False
            if data.strip():
                return True
        return False
