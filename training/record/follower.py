"""Follow a run's record as it grows, reading each of its bytes once. No torch.

The first look reads the bounded report and the last lines of the log; each further look opens the log, asks for its
size and reads what was appended. There is no inotify: runs may lie on a network disk, where opening a file is also what
makes the client ask the server for its present size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from training.errors import UserError
from training.record.log import LOG_NAME, REPORT_NAME, CountedEvents, DamagedLines, read_report
from training.record.report import Report
from training.record.schema import SCHEMA_VERSION, Event, parse_event
from training.storage.json_files import LARGEST_BYTES, open_regular

TAIL_BYTES = 32 * 1024
"""About a hundred updates: enough to tell a run's present pace."""
FARTHEST_SEAM_BYTES = 4 * 1024 * 1024
"""Longest end of the log in which the report's last event is looked for; it should be among the last lines."""
MARK_BYTES = 64


_Signature = tuple[int, int, int]
"""Inode, bytes and time of the last change of a file: as long as they are the same, so is the file."""


class UnreadableRecordError(UserError):
    """A record is there, but nothing in it can be used."""


class Reading(NamedTuple):
    """Result of one look at a record."""

    report: dict[str, Any] | None
    """Not None: what was read before no longer counts, and the run starts again from this report."""
    earlier: list[Event]
    """With a new report: the log's last events that it holds already, oldest first."""
    events: list[Event]
    """Events after the report or the last look, oldest first. The first may be in the report too."""


class ProgressFollower:
    """Reads one run's record, look after look.

    A log that was overwritten, cut, replaced or rewound by a resumption is noticed and read again from its report. A
    half-written last line is left for the next look.

    Args:
        run_dir: directory of the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.bytes_read = 0
        """Bytes of both files so far."""
        self.damaged = DamagedLines()
        """Lines of the log that are no events, since it was last read from its report."""
        self.report_faults: list[str] = []
        """What of the report could not be used, in words."""
        self._offset: int | None = None  # where the next event of the log begins; None: the next look is a first one
        self._inode = 0
        self._mark = b""  # the bytes before the offset, by which the log is known again
        self._report_signature: _Signature | None = None
        self._refused: tuple[_Signature, UnreadableRecordError] | None = None  # a log that need not be read again

    def look(self) -> Reading:
        """Return what is new.

        Raises:
            FileNotFoundError: there is no record (any more).
            UnreadableRecordError: nothing in the record can be used.
            OSError: the disk refuses; the next look may succeed.
        """
        log = self.run_dir / LOG_NAME
        try:
            with open_regular(log) as file:
                signature = _signature(os.fstat(file.fileno()))
                if self._refused is not None and self._refused[0] == signature:
                    raise self._refused[1]
                events = self._appended(file) if self._offset is not None else None
                if events is not None and not _starts_again(events):
                    return Reading(None, [], events)
                try:
                    return self._start_again(file)
                except UnreadableRecordError as error:
                    self._offset, self._refused = None, (signature, error)
                    raise
        except FileNotFoundError:
            self._offset = None
            return self._report_alone()

    # -- a further look --------------------------------------------------------------------------------------------

    def _appended(self, file: IO[bytes]) -> list[Event] | None:
        """Return the events behind the offset, or None where the log is not the one that was read before."""
        assert self._offset is not None
        status = os.fstat(file.fileno())
        if status.st_ino != self._inode or status.st_size < self._offset:
            return None
        if status.st_size == self._offset:
            return []
        if status.st_size - self._offset > LARGEST_BYTES:
            return None
        file.seek(self._offset - len(self._mark))
        content = file.read(len(self._mark) + status.st_size - self._offset)
        self.bytes_read += len(content)
        if not content.startswith(self._mark):
            return None
        complete = content[: content.rfind(b"\n") + 1]
        events = self._events(complete[len(self._mark) :].splitlines())
        self._stand_behind(self._offset + len(complete) - len(self._mark), complete)
        return events

    def _stand_behind(self, offset: int, content: bytes) -> None:
        """Continue at `offset`, where `content` ends."""
        self._offset, self._mark = offset, content[-MARK_BYTES:]

    def _events(self, lines: Iterable[bytes]) -> list[Event]:
        found = []
        for line in lines:
            event = parse_event(line)
            if event is None:
                self.damaged.add(None)
            else:
                found.append(event)
        return found

    # -- a first look ----------------------------------------------------------------------------------------------

    def _start_again(self, file: IO[bytes]) -> Reading:
        # The size before the report: what is appended meanwhile is then read twice rather than never.
        status = os.fstat(file.fileno())
        self._inode, self.damaged, self._report_signature = status.st_ino, DamagedLines(), None
        self.report_faults = []
        report = read_report(self.run_dir, self.report_faults)
        if report is not None:
            self.bytes_read += self._size_of_report()
            if report.get("schema_version") != SCHEMA_VERSION:
                raise UnreadableRecordError(
                    f"{self.run_dir / REPORT_NAME}: schema version {report.get('schema_version')!r}, and this program "
                    f"reads {SCHEMA_VERSION}"
                )
            tail = self._tail_since(file, status.st_size, report.get("updated_at"))
            if tail is not None and not _starts_again(tail[1][1:]):  # the first is the report's last
                return Reading(report, *tail)
        # No report, or one that the log has nothing in common with, or that a resumption is ahead of.
        return Reading(self._fold(file), [], [])

    def _size_of_report(self) -> int:
        try:
            return (self.run_dir / REPORT_NAME).stat().st_size
        except FileNotFoundError:  # deleted since it was read
            return 0

    def _tail_since(self, file: IO[bytes], size: int, updated_at: object) -> tuple[list[Event], list[Event]] | None:
        """Return the log's last events, cut where the report ends: before the first event of that time, and from it on.

        None: there is no such event. Events of the same millisecond may lie on both sides of the report's end; those
        are returned although the report holds them (`Report.apply` knows).
        """
        length = TAIL_BYTES
        while True:
            start = max(0, size - length)
            file.seek(start)
            content = file.read(size - start)
            self.bytes_read += len(content)
            first = 0 if start == 0 else content.find(b"\n") + 1
            complete = content[first : content.rfind(b"\n") + 1]
            self.damaged = DamagedLines()
            events = self._events(complete.splitlines())
            for n, event in enumerate(events):
                if event.get("time") == updated_at:
                    self._stand_behind(start + first + len(complete), complete)
                    return events[:n], events[n:]
            if start == 0 or length >= FARTHEST_SEAM_BYTES:
                return None
            length *= 4

    def _fold(self, file: IO[bytes]) -> dict[str, Any]:
        """Return the report of the whole log, folded in bounded memory."""
        events = CountedEvents(file)
        report = Report.of_counted(events)
        self.damaged = events.damaged
        self.bytes_read += 2 * events.length
        self._stand_behind(events.length, events.last_line)
        if report.state == "unknown" and self.damaged.count:
            raise UnreadableRecordError(f"{self.run_dir / LOG_NAME}: it is damaged, no run begins in it")
        return report.to_dict()

    def _report_alone(self) -> Reading:
        """Read the record of a run whose log was taken away."""
        status = (self.run_dir / REPORT_NAME).stat()
        signature = _signature(status)
        if signature == self._report_signature:
            return Reading(None, [], [])
        self.report_faults = []
        report = read_report(self.run_dir, self.report_faults)
        if report is None or report.get("schema_version") != SCHEMA_VERSION:
            raise UnreadableRecordError(
                f"{self.run_dir / REPORT_NAME}: it is damaged or of another version, and there is no {LOG_NAME}"
            )
        self.bytes_read += status.st_size
        self._report_signature = signature
        return Reading(report, [], [])


def _signature(status: os.stat_result) -> _Signature:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _starts_again(events: Sequence[Event]) -> bool:
    """Say whether the run no longer goes on from what was read before."""
    return any(event["event"] in ("run_started", "run_resumed") for event in events)
