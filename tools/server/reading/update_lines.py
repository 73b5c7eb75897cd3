"""Updates of a log read many at a time: lines of one form by one compiled pattern. The rest is read line by line.

A log has one line for each update, and the lines of a run have one form: the same keys in the same order. From a line
that `training.record.schema.parse_event` takes for an event, the pattern of its form is made; what the pattern matches
is an event of the same keys and types. All lines between two other events are matched by one call, so the curve of a
long run is there at once.
"""

from __future__ import annotations

import json
import re
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.record.log import LONGEST_LINE
from training.record.schema import Event, parse_event

UPDATES_AT_ONCE = 4096
MOST_FORMS = 4
"""Forms that are kept: a task may report some figure only at some updates."""
_COUNTS = frozenset({"step", "epoch", "batch", "tokens", "samples"})
"""Keys whose values are whole numbers from 0 on."""
_COUNT = rb"(0|[1-9][0-9]{0,17}+)"
_NUMBER = rb"(-?+(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+)"
"""Parts of a number never give back what they have matched (`++`), which takes half of the time."""
_TEXT = rb'"[\x20\x21\x23-\x5b\x5d-\x7e]*"'
_FLAG = rb"(?:true|false)"
_BEGINNING = b'{"event": "step", '
_END_OF_UPDATES = re.compile(rb"\n(?!" + re.escape(_BEGINNING) + rb")")
_ON_THEIR_OWN = frozenset({"run_started", "run_resumed", "step"})
"""Events that do not stand among updates: after a beginning a curve goes on from elsewhere."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Updates:
    """Some updates in a row."""

    columns: Mapping[str, Floats]
    """Finite numbers by key."""
    others: Sequence[tuple[int, Event]] = ()
    """Other events among them, each with the number of updates before it; no beginning of a run, no update."""

    def __len__(self) -> int:
        return len(self.columns["step"])


@dataclass(frozen=True)
class Form:
    """The form of a line."""

    keys: tuple[str, ...]
    """Keys whose values are numbers, in the order of the line."""
    pattern: re.Pattern[bytes]
    step: int
    """Place of the step among them."""

    @classmethod
    def of(cls, line: bytes, event: Event) -> Form | None:
        """Return the form of an update's line; None: it is not written as the reporter writes lines, or not all plain.

        Args:
            line: the line with its end.
            event: what it was read as.
        """
        if event["event"] != "step" or line != (json.dumps(event, ensure_ascii=False) + "\n").encode(
            "utf-8", "replace"
        ):
            return None
        parts, keys = [], []
        for key, value in event.items():
            value_pattern = rb'"step"' if key == "event" else _pattern_of(key, value)
            if value_pattern is None:
                return None
            if type(value) in (int, float):
                keys.append(key)
            parts.append(re.escape(json.dumps(key).encode()) + b": " + value_pattern)
        return cls(tuple(keys), re.compile(rb"(?m:^)\{" + b", ".join(parts) + rb"\}\n"), keys.index("step"))

    def rows(self, block: bytes, start: int, end: int) -> list[Sequence[bytes]]:
        """Return the numbers of each line of this form in a part of a block that begins with a line."""
        found = self.pattern.findall(block, start, end)
        return found if len(self.keys) > 1 else [(one,) for one in found]


def _pattern_of(key: str, value: object) -> bytes | None:
    if type(value) is bool:
        return _FLAG
    if type(value) in (int, float):
        return _COUNT if key in _COUNTS else _NUMBER
    return _TEXT if isinstance(value, str) else None


def read_updates(blocks: Iterable[tuple[bytes, int | None]]) -> Iterator[Updates | Event]:
    """Yield the events of a log that count, in order, its updates many at a time.

    Args:
        blocks: pieces of whole lines, each with the last step that counts in it (`CountedEvents.blocks`); None: all do.
    """
    reader = _Reader()
    for block, limit in blocks:
        start = 0
        while start < len(block):
            end = _end_of_updates(block, start)
            if end > start:
                yield from reader.take_updates(block, start, end, limit)
            else:
                end = block.find(b"\n", start) + 1 or len(block)
                yield from reader.take_other(block[start:end], limit)
            start = end
    yield from reader.flush()


def _end_of_updates(block: bytes, start: int) -> int:
    """Return where those lines end, from the beginning of a line on, that begin as updates do."""
    if not block.startswith(_BEGINNING, start):
        return start
    found = _END_OF_UPDATES.search(block, start)
    return found.end() if found is not None else len(block)


def counts(event: Event, limit: int | None) -> bool:
    """Return whether an event counts, in a part of the log of which steps up to a limit do."""
    return limit is None or event["event"] == "run_resumed" or (event.get("step") or 0) <= limit


class _Reader:
    """Updates of one form that were read and not yet given on, with the events among them."""

    def __init__(self) -> None:
        self._forms: OrderedDict[tuple[str, ...], Form] = OrderedDict()
        self._form: Form | None = None
        self._columns: list[array[float]] = []
        self._count = 0
        self._others: list[tuple[int, Event]] = []

    def take_updates(self, block: bytes, start: int, end: int, limit: int | None) -> Iterator[Updates | Event]:
        """Take lines of a block that begin as updates do, at once if all of them have the form of the ones before."""
        if self._form is None and (first := block.find(b"\n", start, end) + 1):
            yield from self._take_line(block[start:first], limit)
            start = first
        if self._form is not None:
            rows = self._form.rows(block, start, end)
            if len(rows) == block.count(b"\n", start, end):
                yield from self._take_rows(rows, limit)
                return
        for line in block[start:end].split(b"\n")[:-1]:
            yield from self._take_line(line + b"\n", limit)

    def _take_line(self, line: bytes, limit: int | None) -> Iterator[Updates | Event]:
        """Take one line that begins as updates do."""
        rows = self._form.rows(line, 0, len(line)) if self._form is not None else []
        if not rows:
            yield from self.flush()
            self._form = self._form_of(line)
            rows = self._form.rows(line, 0, len(line)) if self._form is not None else []
        if rows:
            yield from self._take_rows(rows, limit)
        elif (event := parse_event(line)) is not None and counts(event, limit):
            yield event

    def _take_rows(self, rows: Sequence[Sequence[bytes]], limit: int | None) -> Iterator[Updates | Event]:
        assert self._form is not None
        if limit is not None:
            place = self._form.step
            rows = [row for row in rows if int(row[place]) <= limit]
        if not self._count:
            self._columns = [array("d") for _ in self._form.keys]
        # At once: thousands of rows that are kept would be walked through by the garbage collector again and again.
        for column, texts in zip(self._columns, zip(*rows, strict=True), strict=False):
            column.extend(map(float, texts))
        self._count += len(rows)
        if self._count >= UPDATES_AT_ONCE:
            yield from self.flush()

    def take_other(self, line: bytes, limit: int | None) -> Iterator[Updates | Event]:
        """Take a line that does not begin as updates do."""
        event = parse_event(line) if len(line) <= LONGEST_LINE else None
        if event is None or not counts(event, limit):
            return
        if self._count and event["event"] not in _ON_THEIR_OWN:
            self._others.append((self._count, event))
            if len(self._others) >= UPDATES_AT_ONCE:
                yield from self.flush()
            return
        yield from self.flush()
        yield event

    def flush(self) -> Iterator[Updates | Event]:
        """Give all on that was read."""
        form, others, count = self._form, self._others, self._count
        self._count, self._others = 0, []
        if form is None or not count:
            return
        columns = {key: np.array(column) for key, column in zip(form.keys, self._columns, strict=True)}
        is_finite = np.logical_and.reduce([np.isfinite(column) for column in columns.values()])
        if not is_finite.all():  # a number that no float holds: its line is no event
            columns = {key: column[is_finite] for key, column in columns.items()}
            before = np.concatenate([[0], np.cumsum(is_finite)])
            others = [(int(before[number]), event) for number, event in others]
        yield Updates(columns, others)

    def _form_of(self, line: bytes) -> Form | None:
        """Return the form of an update's line, a known one if it is; None: it has none."""
        for keys, form in reversed(self._forms.items()):
            if form.rows(line, 0, len(line)):
                self._forms.move_to_end(keys)
                return form
        event = parse_event(line)
        made = Form.of(line, event) if event is not None else None
        if made is not None:
            self._forms[made.keys] = made
            if len(self._forms) > MOST_FORMS:
                self._forms.popitem(last=False)
        return made
