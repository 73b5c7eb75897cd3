"""The events of a run as server-sent events, each exactly once for each client, over restarts of both.

The id of an event is its place in the run's log (`tools.server.reading.log_position`). A client that comes back names
the last id that it has, and gets what stands behind it, whichever server process asks the disk. If that place is no
longer one of the log, because the run was overwritten or its log replaced, the client gets `reset`, and the new log
from its beginning.

Each stream reads the log from its own place on, so a slow client costs no memory. At the log's end, the streams of a
run share one `LogTail`: one thread asks the disk for the sizes of all logs that somebody watches, and what was appended
is read once. A heartbeat tells both sides that the other one is still there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.types import Send

from tools.server.reading.change_signal import ChangeSignal
from tools.server.reading.log_position import NO_LOG, START, LogPosition, generation_of, is_behind_line
from training.record.log import LOG_NAME, complete_lines
from training.record.schema import parse_event
from training.storage.json_files import open_regular

POLL_SECONDS = 0.25
"""Time between two looks at the logs that somebody watches."""
HEARTBEAT_SECONDS = 15.0
AGAIN_SECONDS = 1.0
"""Time until a disk that refused a log is asked again."""
RETRY_MILLISECONDS = 1000
"""Time after which a browser comes back to a server that went away."""
PIECE_BYTES = 256 * 1024
"""Bytes of a log that a stream reads and sends at once."""
HEARTBEAT = b": still here\n\n"
RESET, STATE = "reset", "state"
"""Names of the events that are the server's own."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
LOG = logging.getLogger("apt_trainer.server.events")
OTHER = "other"
"""Name for an event whose own name is no word, or one of the server's."""

Status = tuple[int, dict[str, Any] | None]
"""Revision of a run's state, and the state as plain data; None: there is no such run any more."""


class EventStream(StreamingResponse):
    """Answer that is server-sent events; when it ends, for whatever reason, so does its generator, at once."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncGenerator[bytes, None]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._content = content

    async def stream_response(self, send: Send) -> None:
        """See `StreamingResponse.stream_response`."""
        async with contextlib.aclosing(self._content):
            await super().stream_response(send)


def event_bytes(name: str, data: Any, identity: str | None = None) -> bytes:
    """Return one server-sent event.

    Args:
        name: what a browser listens for.
        data: plain data.
        identity: what a browser names as the last event that it has; None: this event changes nothing about it.
    """
    return format_sse_event(event=name, data_str=json.dumps(data, allow_nan=False), id=identity)


# -- the log -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A part of a log as server-sent events."""

    start: LogPosition
    end: LogPosition
    body: bytes
    """Events; empty: there are none in it."""
    is_last: bool
    """Nothing stands behind it, or half a line."""


def read_piece(log: Path, position: LogPosition, most: int = PIECE_BYTES) -> Piece:
    """Return what stands behind a place in a log.

    Args:
        log: path of the log.
        position: where a client stands. If that is no place in this log, the piece is the event `reset`.
        most: bytes after which no further line is read.

    Raises:
        OSError: the disk refuses.
    """
    try:
        file = open_regular(log)
    except FileNotFoundError:
        return Piece(position, START, b"" if position == START else _reset(START), True)
    with file:
        generation, size = generation_of(file), os.fstat(file.fileno()).st_size
        if generation == NO_LOG:
            return Piece(position, START, b"" if position == START else _reset(START), True)
        begun = LogPosition(generation, 0) if position == START else position
        if begun.generation != generation or begun.offset > size or not is_behind_line(file, begun.offset):
            now = LogPosition(generation, 0)
            return Piece(position, now, _reset(now), False)
        file.seek(begun.offset)
        offset, events = begun.offset, []
        for line in complete_lines(file):
            offset += len(line)
            if (event := _event_of(line, LogPosition(generation, offset))) is not None:
                events.append(event)
            if offset - begun.offset >= most:
                return Piece(position, LogPosition(generation, offset), b"".join(events), False)
        return Piece(position, LogPosition(generation, offset), b"".join(events), True)


def _reset(position: LogPosition) -> bytes:
    return event_bytes(RESET, {"generation": position.generation}, str(position))


def _event_of(line: bytes, position: LogPosition) -> bytes | None:
    """Return the server-sent event of a line; None: the line is no event, and every reader skips it."""
    event = parse_event(line)
    if event is None:
        return None
    name = event["event"]
    if not _NAME.fullmatch(name) or name in (RESET, STATE):
        name = OTHER
    if b"NaN" in line or b"Infinity" in line or not _is_utf8(line):  # no JSON to a browser
        text = json.dumps(event, ensure_ascii=True, allow_nan=False)
    else:
        text = line.decode("utf-8-sig").strip()
    return format_sse_event(event=name, data_str=text, id=str(position))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


class LogTail:
    """The end of one run's log, as the streams that have come so far share it.

    Args:
        run_id: id of the run.
        run_dir: its directory.
    """

    def __init__(self, run_id: str, run_dir: Path) -> None:
        self.run_id, self.log = run_id, run_dir / LOG_NAME
        self.changed = ChangeSignal()
        self.num_streams = 0
        self.position: LogPosition | None = None
        """Place up to which the log was read; None: no stream has come to its end yet."""
        self.status_revision = -1
        self._piece: Piece | None = None
        self._signature: tuple[int, int, int] | None = None
        self._lock = threading.Lock()

    def stand_at(self, position: LogPosition) -> None:
        """Note the place of a stream that has come to the end of the log, unless a later one is known."""
        with self._lock:
            own = self.position
            if own is not None and (own.generation != position.generation or own.offset >= position.offset):
                return
            self.position, self._signature = position, None
        if own is not None:
            self.changed.notify()  # the others are behind it

    def piece_behind(self, position: LogPosition) -> Piece | None:
        """Return what was appended last, if it stands just behind a place."""
        piece = self._piece
        return piece if piece is not None and piece.start == position else None

    def look(self) -> None:
        """Read what was appended; what is unchanged costs one question to the disk.

        Raises:
            OSError: the disk refuses.
        """
        with self._lock:
            if self.position is None:
                return
            try:
                status = os.stat(self.log)  # noqa: PTH116  # a path object costs as much as the question
                signature = (status.st_ino, status.st_size, status.st_mtime_ns)
            except FileNotFoundError:
                signature = (0, 0, 0)
            if signature == self._signature:
                return
            piece = read_piece(self.log, self.position)
            if piece.end != self.position:
                self._piece, self.position = piece, piece.end
            self._signature = signature if piece.is_last else None
        if piece.end != piece.start:
            self.changed.notify()


class EventStreams:
    """The streams of all runs, and the thread that looks at what they watch.

    Args:
        status_of: state of a run by its id, as `RunIndex.status_of` gives it.
        stopping: set when the server ends; all streams end then.
        poll_seconds: time between two looks.
        heartbeat_seconds: longest silence of a stream.
    """

    def __init__(
        self,
        status_of: Callable[[str], Status],
        stopping: threading.Event,
        poll_seconds: float = POLL_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._status_of, self._stopping = status_of, stopping
        self._poll_seconds, self._heartbeat_seconds = poll_seconds, heartbeat_seconds
        self._tails: dict[str, LogTail] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def num_tails(self) -> int:
        """Runs that somebody watches."""
        return len(self._tails)

    async def events(self, run_id: str, run_dir: Path, since: LogPosition) -> AsyncGenerator[bytes, None]:
        """Yield a run's events behind a place as they come, its states, and heartbeats, until the server ends.

        Args:
            run_id: id of the run.
            run_dir: its directory.
            since: where the client stands.
        """
        with self._watched(run_id, run_dir) as tail:
            yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            position, revision, is_behind = since, -1, True
            while not self._stopping.is_set():
                seen, sent = tail.changed.count, False
                if (status := self._status_of(run_id))[0] != revision:
                    revision, sent = status[0], True
                    yield event_bytes(STATE, status[1] or {"job_id": run_id, "status": "removed"})
                    if status[1] is None:
                        return
                if is_behind or tail.position != position:
                    piece = tail.piece_behind(position) or await _read(tail.log, position)
                    is_behind = piece is None or not piece.is_last
                    if piece is not None:
                        position = piece.end
                        if piece.body:
                            sent = True
                            yield piece.body
                        if is_behind:
                            continue
                        tail.stand_at(position)
                seconds = AGAIN_SECONDS if is_behind else self._heartbeat_seconds
                if await tail.changed.wait(seen, seconds) == seen and not sent:
                    yield HEARTBEAT

    @contextlib.contextmanager
    def _watched(self, run_id: str, run_dir: Path) -> Iterator[LogTail]:
        with self._lock:
            tail = self._tails.setdefault(run_id, LogTail(run_id, run_dir))
            tail.num_streams += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="event streams", daemon=True)
                self._thread.start()
        try:
            yield tail
        finally:
            with self._lock:
                tail.num_streams -= 1
                if tail.num_streams == 0:
                    del self._tails[run_id]

    def _look(self) -> None:
        """Look at all tails, until nobody watches or the server ends."""
        while True:
            is_end = self._stopping.wait(self._poll_seconds)
            with self._lock:
                tails = list(self._tails.values())
                if is_end or not tails:
                    self._thread = None
                    break
            for tail in tails:
                self._look_at(tail)
                revision = self._status_of(tail.run_id)[0]
                if revision != tail.status_revision:
                    tail.status_revision = revision
                    tail.changed.notify()
        for tail in tails:
            tail.changed.notify()

    def _look_at(self, tail: LogTail) -> None:
        try:
            tail.look()
        except OSError:  # a network disk that is away for a moment; the next look asks again
            return
        except Exception:  # the streams of the other runs must go on
            LOG.exception("an error of the server, while it followed the log of run %s", tail.run_id)


async def _read(log: Path, position: LogPosition) -> Piece | None:
    """Read a piece in a thread; None: the disk refuses now."""
    try:
        return await asyncio.to_thread(read_piece, log, position)
    except OSError:
        return None
