"""The events of a run over HTTP: each exactly once from any place on, over restarts, resumptions and another log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from tests.support.served_apps import SentEvent, sent_events, served
from tools.server.reading.events import EventStream, EventStreams, LogTail, Piece, Status, read_piece
from tools.server.reading.log_position import NO_LOG, START, LogPosition
from training.record.log import LOG_NAME, read_events

RUN_ID = "0123456789ab"


def logged(run_dir: Path) -> list[dict[str, Any]]:
    return list(read_events(run_dir / LOG_NAME))


def recorded(path: Path, start: float = 1e9) -> RecordedRun:
    """Make the record of a run that was resumed twice, with a damaged line and a name that is no word in it."""
    run = RecordedRun(path, start=start, total_steps=30, validation=lambda epoch: 1.0 / epoch)
    run.train(17).flush()
    with (path / LOG_NAME).open("ab") as log:
        log.write(b'{"event": "step", "step": \n')
        log.write(b'{"event": "two\\nlines", "step": 3}\n{"event": "state", "text": "\xe4\xbd\xa0 \\ud83d"}\r\n')
        log.write(b'{"event": "eval", "step": 3, "loss": NaN, "message": "\xed\xa0\x80"}\n')
    run.resume(12).train(10).flush()
    return run.resume(20).train().finish()


class Client:
    """A client that reads pieces of a log directly, as a stream does, and remembers what it got."""

    def __init__(self) -> None:
        self.events: list[SentEvent] = []
        self.position = START
        self.num_resets = 0

    def read(self, run_dir: Path, most: int) -> None:
        """Read up to the end of the log."""
        while True:
            piece = read_piece(run_dir / LOG_NAME, self.position, most)
            assert piece.start == self.position
            for event in sent_events(httpx.Response(200, content=piece.body)):
                assert event is not None
                assert event.identity is not None
                if event.name == "reset":
                    self.events.clear()
                    self.num_resets += 1
                else:
                    self.events.append(event)
            self.position = piece.end
            if piece.is_last:
                return

    def received(self) -> list[Any]:
        return [event.data for event in self.events]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("record") / "run").path


@given(cuts=st.lists(st.integers(0, 12_000), max_size=6), most=st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_however_a_log_grows_each_event_comes_once(
    record: Path, cuts: list[int], most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = (record / LOG_NAME).read_bytes()
    growing = tmp_path_factory.mktemp("growing")
    client = Client()
    client.read(growing, most)
    for cut in [*sorted(cuts), len(content)]:
        (growing / LOG_NAME).write_bytes(content[:cut])
        client.read(growing, most)
    assert client.received() == logged(record)
    assert client.num_resets == 0
    assert {event.name for event in client.events} >= {"step", "eval", "run_resumed", "run_finished", "other"}


@given(split=st.integers(0, 70), most=st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_the_id_of_any_event_is_where_the_rest_begins(record: Path, split: int, most: int) -> None:
    whole = Client()
    whole.read(record, 2**20)
    split = min(split, len(whole.events))
    rest = Client()
    last = whole.events[split - 1].identity if split else str(START)
    assert last is not None
    position = LogPosition.parse(last)
    assert position is not None
    rest.position = position
    rest.read(record, most)
    assert [*whole.events[:split], *rest.events] == whole.events
    assert (rest.num_resets, rest.position) == (0, whole.position)


@pytest.mark.parametrize("spoil", ["overwritten", "shorter", "shifted", "deleted"])
def test_another_log_in_its_place_is_sent_from_its_beginning(tmp_path: Path, spoil: str) -> None:
    run = recorded(tmp_path / "run")
    client = Client()
    client.read(run.path, 1000)
    log = run.path / LOG_NAME
    content = log.read_bytes()
    if spoil == "overwritten":
        recorded(tmp_path / "run", start=2e9)
    elif spoil == "shorter":
        log.write_bytes(b"".join(content.splitlines(keepends=True)[:9]))
    elif spoil == "shifted":
        first, rest = content.split(b"\n", 1)
        log.write_bytes(first + b"\n" + b'{"event": "said", "lines": []}\n' + rest)
    else:
        log.unlink()
    client.read(run.path, 1000)
    assert client.num_resets == 1
    assert client.received() == (logged(run.path) if log.exists() else [])
    assert (client.position.generation == NO_LOG) == (spoil == "deleted")


def test_positions_that_are_none() -> None:
    for text in ("", "0123456789ab", "0123456789ab-", "0123456789AB-1", "0123456789ab-01", "0123456789ab--1", "../x-1"):
        assert LogPosition.parse(text) is None
    assert LogPosition.parse("0123456789ab-120") == LogPosition("0123456789ab", 120)


def test_a_log_that_does_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recorded(tmp_path / "run")
    piece = read_piece(run.path / LOG_NAME, START)
    tail = LogTail(RUN_ID, run.path)
    tail.look()
    assert tail.position is None, "nobody has come to the end yet"
    tail.stand_at(piece.end)
    tail.look()
    reads: list[Path] = []

    def counted_read(log: Path, position: LogPosition) -> Piece:
        reads.append(log)
        return read_piece(log, position)

    monkeypatch.setattr("tools.server.reading.events.read_piece", counted_read)
    for _ in range(5):
        tail.look()
    assert reads == []
    run.resume(25).train(2).flush()
    tail.look()
    assert len(reads) == 1
    appended = tail.piece_behind(piece.end)
    assert appended is not None
    assert appended.body.count(b"event: ") == 4, "run_resumed, a warning of the damaged line, two updates"


# -- over HTTP -----------------------------------------------------------------------------------------------------


class Served:
    """A server of one run's events, which can be ended and started again."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.status: Status = (1, {"job_id": RUN_ID, "status": "running"})
        self.streams: EventStreams | None = None

    def start(self, heartbeat_seconds: float = 15.0) -> Any:
        """Serve it; the block's value is the address."""
        stopping = threading.Event()
        self.streams = streams = EventStreams(lambda _: self.status, stopping, 0.02, heartbeat_seconds)
        app = FastAPI()

        @app.get("/events")
        async def events(since: str = str(START)) -> EventStream:
            position = LogPosition.parse(since)
            assert position is not None
            return EventStream(streams.events(RUN_ID, self.run_dir, position))

        return served(app, stopping)


def read_until(address: str, since: str, is_enough: Callable[[list[SentEvent]], bool]) -> list[SentEvent]:
    found: list[SentEvent] = []
    with httpx.stream("GET", f"{address}/events", params={"since": since}, timeout=30) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in sent_events(response):
            if event is not None:
                found.append(event)
                if is_enough(found):
                    break
    return found


def has_step(step: int) -> Callable[[list[SentEvent]], bool]:
    return lambda events: events[-1].name == "step" and events[-1].data["step"] == step


def test_a_watched_run_over_a_restart_of_the_server(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9, report_batches=1).train(3).flush()
    server = Served(run.path)
    with server.start() as address:
        first = read_until(address, str(START), has_step(3))
    assert [event.name for event in first] == ["state", "run_started", "step", "step", "step"]
    assert first[0].identity is None
    run.train(2).flush()
    with server.start() as address:
        last = first[-1].identity
        assert last is not None
        received: list[SentEvent] = []

        def train_on(events: list[SentEvent]) -> bool:
            if has_step(5)(events) or has_step(6)(events):
                run.train(1)
                server.status = (2, {"job_id": RUN_ID, "status": "finished"})
            return events[-1].name == "step" and events[-1].data["step"] == 7

        received = read_until(address, last, train_on)
        while server.streams is not None and server.streams.num_tails:  # the client has left; the server notices
            time.sleep(0.01)
    steps = [event.data["step"] for event in [*first, *received] if event.name == "step"]
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert next(event.data["status"] for event in received if event.name == "state") == "running"


def test_many_clients_get_the_same_and_the_stream_ends_with_the_server(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9, report_batches=1)
    server = Served(run.path)
    results: list[list[SentEvent]] = []
    with server.start() as address:

        def watch() -> None:
            found: list[SentEvent] = []
            results.append(found)
            with httpx.stream("GET", f"{address}/events", timeout=300) as response:
                for event in sent_events(response):
                    if event is not None:
                        found.append(event)

        threads = [threading.Thread(target=watch) for _ in range(8)]
        for thread in threads:
            thread.start()
        run.train(20)
        read_until(address, str(START), has_step(20))
        whole = len(logged(run.path))
        while [sum(event.name != "state" for event in [*found]) for found in results] != [whole] * len(threads):
            time.sleep(0.01)
    for thread in threads:
        thread.join(300)
    assert len(results) == 8
    for found in results:
        assert [event.data for event in found if event.name != "state"] == logged(run.path)


def test_a_silent_run_has_heartbeats_and_a_deleted_one_ends(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9, report_batches=1)
    server = Served(run.path)

    def heartbeats(response: httpx.Response) -> Iterator[SentEvent]:
        for event in sent_events(response):
            if event is None:
                server.status = (2, None)
            else:
                yield event

    with (
        server.start(heartbeat_seconds=0.05) as address,
        httpx.stream("GET", f"{address}/events", timeout=30) as response,
    ):
        found = list(heartbeats(response))
    assert [event.name for event in found] == ["state", "run_started", "state"]
    assert found[-1].data == {"job_id": RUN_ID, "status": "removed"}


def test_a_log_replaced_under_a_watching_client(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9, report_batches=1).train(3)
    server = Served(run.path)
    with server.start() as address:

        def replace(events: list[SentEvent]) -> bool:
            if has_step(3)(events):
                RecordedRun(tmp_path / "run", start=2e9, report_batches=1).train(4)
            return has_step(4)(events)

        found = read_until(address, str(START), replace)
    names = [event.name for event in found]
    place = len(names) - 1 - names[::-1].index("reset")
    assert names[place:] == ["reset", "run_started", "step", "step", "step", "step"]
    assert [event.data for event in found[place + 1 :]] == logged(run.path)
    assert json.dumps([event.data for event in found], allow_nan=False)
