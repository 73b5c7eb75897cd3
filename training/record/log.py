"""Reading `progress.jsonl`: its events, those of them that count, and a fast scan for a few marks. No torch.

A resumed run does again what lies behind the step from which it goes on. `counted` leaves out what was done again, in
memory; `CountedEvents` does so for a log of any length without holding it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from training.record.schema import Event, checked_report, integer, parse_event
from training.storage.json_files import DamagedFileError, open_regular, parse_json, read_bytes
from training.storage.run_files import RunFile

LOG_NAME = "progress.jsonl"
REPORT_NAME = "experiment_report.json"
RUN_FILES = (RunFile(LOG_NAME, shows_run=True), RunFile(REPORT_NAME, shows_run=True))

_OF_THE_END = frozenset({"conclusion", "recitation"})
"""Events without a step that belong to the last update done before them; a resumption before that supersedes them."""


LONGEST_LINE = 16 * 2**20
"""Bytes of a line; what is longer is read in pieces, none of which is an event."""
BLOCK_BYTES = 256 * 1024
"""Bytes of a log that are looked at at once."""


@dataclass
class DamagedLines:
    """The lines of a log that are no events: a reader skips and counts them, and says so."""

    count: int = 0
    first: int | None = None
    """Number of the first one, from 1; None: there is none, or its place in the log is not known."""

    def add(self, line: int | None) -> None:
        """Count one."""
        self.count += 1
        if self.count == 1:
            self.first = line

    def __str__(self) -> str:
        lines = "1 damaged line was" if self.count == 1 else f"{self.count:,} damaged lines were"
        first = (
            ""
            if self.first is None
            else f" (line {self.first:,})"
            if self.count == 1
            else (f" (the first is line {self.first:,})")
        )
        return f"{LOG_NAME}: {lines} skipped{first}"


def read_events(path: Path, damaged: DamagedLines | None = None) -> Iterator[Event]:
    """Yield the events of a log, oldest first. An unfinished last line is left out, as is a line that is no event.

    Args:
        path: the log.
        damaged: counts the lines that are no events.

    Raises:
        OSError: the log cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        for number, line in enumerate(complete_lines(file), start=1):
            if (event := parse_event(line)) is not None:
                yield event
            elif damaged is not None:
                damaged.add(number)


def read_report(run_dir: Path, faults: list[str] | None = None) -> dict[str, Any] | None:
    """Return the report of a run, or None where there is none (yet) that can be used.

    It is never seen half written. What in it is not of its declared type is left out.

    Args:
        run_dir: directory of the run.
        faults: takes a line for each part that is left out, or why there is none at all.
    """
    path, found = run_dir / REPORT_NAME, faults if faults is not None else []
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        found.append(f"{REPORT_NAME}: it cannot be used ({error.strerror})")
        return None
    except DamagedFileError as error:
        found.append(str(error))
        return None
    return parse_report(content, found)


def parse_report(content: bytes, faults: list[str] | None = None) -> dict[str, Any] | None:
    """Return the report in the content of its file, or None where it cannot be used. See `read_report`."""
    found = faults if faults is not None else []
    try:
        report = parse_json(content, lenient=True)
    except ValueError as error:
        found.append(f"{REPORT_NAME}: it cannot be used ({error})")
        return None
    if not isinstance(report, dict):
        found.append(f"{REPORT_NAME}: it cannot be used (a report is a mapping)")
        return None
    report, left_out = checked_report(report)
    found.extend(f"{REPORT_NAME}: {name} is damaged and left out" for name in left_out)
    return report


def counted(events: Iterable[Event]) -> list[Event]:
    """Return the events that count: those behind the step from which the run was later resumed are left out."""
    kept: list[tuple[int, Event]] = []
    step = 0
    for event in events:
        name = event["event"]
        if name == "run_resumed":
            limit = event["step"]
            kept = [(at, e) for at, e in kept if at <= limit or e["event"] == "run_resumed"]
        step = _step_of(event, step)
        kept.append((step if name in _OF_THE_END else event.get("step") or 0, event))
    return [event for _, event in kept]


class CountedEvents:
    """The events of an open log that count, oldest first, in memory that does not grow with the log.

    The log is read twice: for its resumptions, then for what they left. What is appended meanwhile is left out.

    Args:
        file: opened for binary reading.
        damaged: counts the lines that are no events.
    """

    def __init__(self, file: IO[bytes], damaged: DamagedLines | None = None) -> None:
        self._file = file
        self.damaged = damaged if damaged is not None else DamagedLines()
        """Lines that are no events, of those read so far."""
        self.length = 0
        """Bytes of all complete lines."""
        self.last_line = b""
        self._resumed: list[tuple[int, int]] = []  # (where the event's line ends, its step), as in the log
        file.seek(0)
        for block in complete_blocks(file):
            for start, end in _lines_with(b'"run_resumed"', block):
                event = parse_event(block[start:end])
                if event is not None and event["event"] == "run_resumed":
                    self._resumed.append((self.length + end, event["step"]))
            self.length, self.last_line = self.length + len(block), block[block.rfind(b"\n", 0, -1) + 1 :]

    def blocks(self) -> Iterator[tuple[bytes, int | None]]:
        """Yield the log in pieces of whole lines, each with the last step that counts in it; None: all steps count.

        A line that resumes belongs to the part before, which it ends; it counts itself, whatever its step.
        """
        self._file.seek(0)
        limits = self._limits()
        limit, until = next(limits)
        position = 0
        for block in complete_blocks(self._file):
            end = min(len(block), self.length - position)
            start = 0
            while start < end:
                stop = end if until is None else min(end, until - position)
                yield block[start:stop], limit
                start = stop
                if position + start == until:
                    limit, until = next(limits)
            position += end

    def lines(self) -> Iterator[tuple[bytes, int | None]]:
        """Yield each line, with the last step that counts in its part of the log, as `blocks` does."""
        for block, limit in self.blocks():
            for line in complete_lines(io.BytesIO(block)):
                yield line, limit

    def __iter__(self) -> Iterator[Event]:
        step = 0
        for number, (line, limit) in enumerate(self.lines(), start=1):
            event = parse_event(line)
            if event is None:
                self.damaged.add(number)
                continue
            step = _step_of(event, step)
            at = step if event["event"] in _OF_THE_END else event.get("step") or 0
            if limit is None or at <= limit or event["event"] == "run_resumed":
                yield event

    def _limits(self) -> Iterator[tuple[int | None, int | None]]:
        """Yield for each part of the run the last step of it that counts, and where its lines end."""
        for n, (end, _) in enumerate(self._resumed):
            yield min(step for _, step in self._resumed[n:]), end
        yield None, None


def _step_of(event: Event, before: int) -> int:
    step = integer(event.get("step"))
    return before if step is None else step


def complete_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines from where an open log stands, line ends included; an unfinished last one is left out."""
    for line in iter(partial(file.readline, LONGEST_LINE), b""):
        if line.endswith(b"\n") or len(line) == LONGEST_LINE:
            yield line


def complete_blocks(file: IO[bytes], size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield what stands behind the place of an open log, many lines at once; an unfinished last line is left out.

    What is longer than `LONGEST_LINE` comes in pieces of their own, as by `complete_lines`.

    Args:
        file: opened for binary reading.
        size: bytes that are read at once.
    """
    rest = b""
    while content := file.read(size):
        end = content.rfind(b"\n") + 1
        rest, complete = (content[end:], rest + content[:end]) if end else (rest + content, b"")
        if complete:
            yield complete
        while len(rest) >= LONGEST_LINE:
            yield rest[:LONGEST_LINE]
            rest = rest[LONGEST_LINE:]


def _lines_with(mark: bytes, block: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the lines of a block begin and end that contain some bytes."""
    end = 0
    while (found := block.find(mark, end)) >= 0:
        start, end = block.rfind(b"\n", 0, found) + 1, block.find(b"\n", found) + 1 or len(block)
        yield start, end


# -- a fast path ---------------------------------------------------------------------------------------------------

_STEP = re.compile(rb'"step": (\d{1,18})[,}]')
_HEAD = 200
"""Bytes in which a step event of the reporter has its step: its keys come in one order."""


@dataclass
class Marks:
    """Details of a run's past that its log holds and the bounded report does not."""

    clipped: list[int] = field(default_factory=list)
    """Updates whose gradient was clipped, in order."""
    skipped: list[int] = field(default_factory=list)
    """Updates that were left out because loss or gradient was not finite."""
    open_epoch: list[Event] = field(default_factory=list)
    """Updates of the epoch that is going on; empty: there is no log, or all epochs are over."""

    def _rewind(self, step: int) -> None:
        self.clipped = [s for s in self.clipped if s <= step]
        self.skipped = [s for s in self.skipped if s <= step]
        self.open_epoch = [e for e in self.open_epoch if e["step"] <= step]


def scan_marks(run_dir: Path, open_epoch: int | None) -> Marks:
    """Read a run's marks in one pass over its log; none where the log was taken away.

    This is the one reader that does not parse every line: it relies on the bytes that `ProgressReporter` writes
    (`{"event": "step"` first, then the time and the step), so a million updates take about a second, and a mark in a
    log that another program has written in another order of keys is missed. Everything else reads through
    `parse_event`.

    Args:
        run_dir: directory of the run.
        open_epoch: number of the epoch whose updates are returned.

    Raises:
        OSError: the disk refuses.
    """
    marks = Marks()
    of_epoch = b'"epoch": %d,' % open_epoch if open_epoch is not None else None
    try:
        with open_regular(run_dir / LOG_NAME) as file:
            for line in complete_lines(file):
                _take_marks(marks, line, of_epoch)
    except FileNotFoundError:
        return Marks()
    return marks


def _take_marks(marks: Marks, line: bytes, of_epoch: bytes | None) -> None:
    found = _STEP.search(line, 0, _HEAD)
    if line.startswith(b'{"event": "step"') and found is not None:
        if b'"clipped": true' in line:
            marks.clipped.append(int(found[1]))
        if b'"skipped": true' in line:
            marks.skipped.append(int(found[1]))
        if of_epoch is not None and of_epoch in line and (event := parse_event(line)) is not None:
            marks.open_epoch.append(event)
    elif line.startswith(b'{"event": "run_started"'):
        marks._rewind(0)
    elif line.startswith(b'{"event": "run_resumed"') and found is not None:
        marks._rewind(int(found[1]))
