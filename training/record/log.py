"""Reading `progress.jsonl`: its events, those of them that count, and a fast scan for a few marks. No torch.

A resumed run does again what lies behind the step from which it goes on. `counted` leaves out what was done again, in
memory; `CountedEvents` does so for a log of any length without holding it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from training.record.schema import Event, integer, parse_event, parse_json
from training.storage.run_files import RunFile

LOG_NAME = "progress.jsonl"
REPORT_NAME = "experiment_report.json"
RUN_FILES = (RunFile(LOG_NAME, shows_run=True), RunFile(REPORT_NAME, shows_run=True))

_OF_THE_END = frozenset({"conclusion", "recitation"})
"""Events without a step that belong to the last update done before them; a resumption before that supersedes them."""


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of a log, oldest first. An unfinished last line is left out, as is a line that is no event."""
    with path.open("rb") as file:
        for line in _complete_lines(file):
            if (event := parse_event(line)) is not None:
                yield event


def read_report(run_dir: Path) -> dict[str, Any] | None:
    """Return the report of a run, or None where there is none (yet). A report is never seen half written."""
    try:
        report = parse_json((run_dir / REPORT_NAME).read_bytes())
    except OSError:
        return None
    return report if isinstance(report, dict) else None


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
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.num_damaged_lines = 0
        """Lines that are no events, of those read so far."""
        self.length = 0
        """Bytes of all complete lines."""
        self.last_line = b""
        self._resumed: list[tuple[int, int]] = []  # (where the event's line ends, its step), as in the log
        file.seek(0)
        for line in _complete_lines(file):
            self.length, self.last_line = self.length + len(line), line
            if (
                b'"run_resumed"' in line
                and (event := parse_event(line)) is not None
                and event["event"] == "run_resumed"
            ):
                self._resumed.append((self.length, event["step"]))

    def __iter__(self) -> Iterator[Event]:
        self._file.seek(0)
        self.num_damaged_lines = 0
        limits = self._limits()
        limit, until = next(limits)
        position = step = 0
        for line in _complete_lines(self._file):
            position += len(line)
            if position > self.length:
                return
            while until is not None and position > until:
                limit, until = next(limits)
            event = parse_event(line)
            if event is None:
                self.num_damaged_lines += 1
                continue
            step = _step_of(event, step)
            at = step if event["event"] in _OF_THE_END else event.get("step") or 0
            if limit is None or at <= limit or event["event"] == "run_resumed":
                yield event

    def _limits(self) -> Iterator[tuple[int | None, int | None]]:
        """Yield for each part of the run the last step of it that counts, and where its lines end."""
        for n, (end, _) in enumerate(self._resumed):
            # The line that resumes belongs to the part before, which it ends; it counts itself, whatever its step.
            yield min(step for _, step in self._resumed[n:]), end
        yield None, None


def _step_of(event: Event, before: int) -> int:
    step = integer(event.get("step"))
    return before if step is None else step


def _complete_lines(file: IO[bytes]) -> Iterator[bytes]:
    return (line for line in file if line.endswith(b"\n"))


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
        with (run_dir / LOG_NAME).open("rb") as file:
            for line in _complete_lines(file):
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
