"""Updates of a log read many at a time: lines of one form by one compiled pattern. The rest is read line by line.

A log has one line for each update, and the lines of a run have one form: the same keys in the same order. From a line
that `training.record.schema.parse_event` takes for an event, the pattern of its form is made; what the pattern matches
is an event of the same keys and types. That costs a tenth of reading JSON, so the curve of a long run is there at once.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.record.schema import Event, parse_event

UPDATES_AT_ONCE = 1024
MOST_FORMS = 4
"""Forms that are kept: a task may report some figure only at some updates."""
_COUNTS = frozenset({"step", "epoch", "batch", "tokens", "samples"})
"""Keys whose values are whole numbers from 0 on."""
_COUNT = rb"(0|[1-9][0-9]{0,17})"
_NUMBER = rb"(-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)"
_TEXT = rb'"[\x20\x21\x23-\x5b\x5d-\x7e]*"'
_FLAG = rb"(?:true|false)"
_BEGINNING = b'{"event": "step", '

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Updates:
    """Some updates in a row."""

    columns: Mapping[str, Floats]
    """Finite numbers by key."""

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
        return cls(tuple(keys), re.compile(rb"\{" + b", ".join(parts) + rb"\}\n"), keys.index("step"))


def _pattern_of(key: str, value: object) -> bytes | None:
    if type(value) is bool:
        return _FLAG
    if type(value) in (int, float):
        return _COUNT if key in _COUNTS else _NUMBER
    return _TEXT if isinstance(value, str) else None


def read_updates(lines: Iterable[tuple[bytes, int | None]]) -> Iterator[Updates | Event]:
    """Yield the events of a log that count, in order, its updates many at a time.

    Args:
        lines: each line with the last step that counts in its part of the log (`CountedEvents.lines`); None: all do.
    """
    forms: OrderedDict[tuple[str, ...], Form] = OrderedDict()
    form: Form | None = None
    rows: list[tuple[bytes, ...]] = []
    waiting: list[bytes] = []
    for line, limit in lines:
        if line.startswith(_BEGINNING):
            found = form.pattern.fullmatch(line) if form is not None else None
            if found is None or form is None:
                yield from _all_of(form, rows, waiting)
                rows, waiting = [], []
                form, found = _form_of(line, forms)
            if found is not None and form is not None:
                row = found.groups()
                if limit is None or int(row[form.step]) <= limit:
                    rows.append(row)
                    waiting.append(line)
                if len(rows) >= UPDATES_AT_ONCE:
                    yield from _all_of(form, rows, waiting)
                    rows, waiting = [], []
                continue
        yield from _all_of(form, rows, waiting)
        rows, waiting = [], []
        if (event := parse_event(line)) is not None and counts(event, limit):
            yield event
    yield from _all_of(form, rows, waiting)


def counts(event: Event, limit: int | None) -> bool:
    """Return whether an event counts, in a part of the log of which steps up to a limit do."""
    return limit is None or event["event"] == "run_resumed" or (event.get("step") or 0) <= limit


def _form_of(line: bytes, forms: OrderedDict[tuple[str, ...], Form]) -> tuple[Form | None, re.Match[bytes] | None]:
    """Return the form of a line, a known one if it is, and the match with it."""
    for keys, form in reversed(forms.items()):
        if (found := form.pattern.fullmatch(line)) is not None:
            forms.move_to_end(keys)
            return form, found
    event = parse_event(line)
    made = Form.of(line, event) if event is not None else None
    if made is None:
        return None, None
    forms[made.keys] = made
    if len(forms) > MOST_FORMS:
        forms.popitem(last=False)
    return made, made.pattern.fullmatch(line)


def _all_of(form: Form | None, rows: list[tuple[bytes, ...]], lines: list[bytes]) -> Iterator[Updates | Event]:
    if form is None or not rows:
        return
    texts = zip(form.keys, zip(*rows, strict=True), strict=True)
    columns = {key: np.array(list(map(float, column))) for key, column in texts}
    if all(np.isfinite(column).all() for column in columns.values()):
        yield Updates(columns)
        return
    for line in lines:  # a number that no float holds: its line is no event
        event: dict[str, Any] | None = parse_event(line)
        if event is not None:
            yield event
