"""`training.record.follower`: a record that grows, is rewound, overwritten, damaged or deleted is told rightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from training.record.follower import (
    MARK_BYTES,
    TAIL_BYTES,
    ProgressFollower,
    Reading,
    UnreadableRecordError,
)
from training.record.report import Report
from training.record.reporter import LOG_NAME, REPORT_NAME, read_events, read_report


def steps(reading: Reading) -> list[int]:
    return [event["step"] for event in reading.events if event["event"] == "step"]


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    return RecordedRun(tmp_path / "run", start=1000.0, total_steps=1000, validation=lambda epoch: 1.0 / epoch)


def test_the_first_look_brings_the_report_and_the_next_ones_what_was_appended(run: RecordedRun) -> None:
    run.train(300).flush()
    follower = ProgressFollower(run.path)
    first = follower.look()
    assert first.report == read_report(run.path)
    assert max(steps(first), default=300) == 300, "nothing but what the report holds already"
    assert [e["step"] for e in first.earlier if e["event"] == "step"][-1] in (299, 300)
    assert follower.look() == (None, [], [])
    run.train(20).flush()
    assert steps(follower.look()) == list(range(301, 321))


def test_no_byte_is_read_twice(run: RecordedRun) -> None:
    run.train(900).flush()
    log = run.path / LOG_NAME
    follower = ProgressFollower(run.path)
    follower.look()
    before, size = follower.bytes_read, log.stat().st_size
    assert before <= (run.path / REPORT_NAME).stat().st_size + TAIL_BYTES < size
    for _ in range(3):
        follower.look()
    assert follower.bytes_read == before
    run.train(50).flush()
    follower.look()
    assert follower.bytes_read - before == log.stat().st_size - size + MARK_BYTES


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 9000), max_size=12))
def test_however_a_log_is_cut_into_writes_each_update_is_told_once(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = RecordedRun(tmp_path_factory.mktemp("cut") / "run", start=0.0, total_steps=25).flush()
    follower = ProgressFollower(run.path)
    follower.look()
    log = run.path / LOG_NAME
    head = log.read_bytes()
    run.train().finish()
    whole = log.read_bytes()
    told: list[int] = []
    for end in [*sorted(cut for cut in cuts if len(head) <= cut < len(whole)), len(whole)]:
        log.write_bytes(whole[:end])
        told += steps(follower.look())
    assert told == list(range(1, 26))
    assert follower.damaged.count == 0


def test_an_event_of_the_report_s_last_millisecond_is_not_lost(run: RecordedRun) -> None:
    run.train(10).flush()
    log = run.path / LOG_NAME
    run.reporter.emit("best", {"step": 10, "epoch": 1, "loss": 0.5})  # as after an evaluation: no time has passed
    with log.open("ab") as file:
        file.write(("\n".join(run.reporter._lines) + "\n").encode())
    names = [event["event"] for event in ProgressFollower(run.path).look().events]
    assert names[-1] == "best"


def test_a_resumed_run_is_told_anew_without_what_it_does_again(run: RecordedRun) -> None:
    run.train(30).flush()
    follower = ProgressFollower(run.path)
    follower.look()
    run.train(5).flush().wait(60).resume(20).train(3).flush()
    reading = follower.look()
    assert reading.report is not None
    assert reading.report["step"] == 23
    assert reading.report == read_report(run.path)
    run.train(2).flush()
    assert steps(follower.look()) == [24, 25]


def test_a_report_that_a_kill_left_behind_a_resumption_is_not_believed(run: RecordedRun) -> None:
    run.train(30).flush()
    old = (run.path / REPORT_NAME).read_bytes()
    run.wait(5).resume(10).train(4).flush()
    (run.path / REPORT_NAME).write_bytes(old)
    reading = ProgressFollower(run.path).look()
    assert reading.report is not None
    assert reading.report["step"] == 14


def test_a_run_that_starts_over_in_the_same_directory_is_told_anew(run: RecordedRun) -> None:
    run.train(40).flush()
    follower = ProgressFollower(run.path)
    follower.look()
    RecordedRun(run.path, start=9000.0, total_steps=1000).train(100).flush()  # its log is longer than the old one
    reading = follower.look()
    assert reading.report is not None
    assert (reading.report["started_at"], reading.report["step"]) == (9000.0, 100)


def test_a_deleted_run_is_missing_and_told_anew_when_it_is_back(run: RecordedRun) -> None:
    run.train(10).flush()
    follower = ProgressFollower(run.path)
    follower.look()
    for name in (LOG_NAME, REPORT_NAME):
        (run.path / name).unlink()
    with pytest.raises(FileNotFoundError):
        follower.look()
    RecordedRun(run.path, start=9000.0).train(3).flush()
    reading = follower.look()
    assert reading.report is not None
    assert reading.report["step"] == 3


def test_without_its_report_a_log_is_folded_as_the_reporter_would(run: RecordedRun) -> None:
    run.train(40).flush().wait(9).resume(25).train(10).flush().wait(9).resume(5).train(7).flush()
    (run.path / REPORT_NAME).write_text("{ half a repo")
    reading = ProgressFollower(run.path).look()
    assert reading.report == Report.of(read_events(run.path / LOG_NAME)).to_dict()


def test_without_its_log_a_report_is_read_whenever_it_changes(run: RecordedRun) -> None:
    run.train(10).flush()
    (run.path / LOG_NAME).unlink()
    follower = ProgressFollower(run.path)
    assert follower.look().report == read_report(run.path)
    assert follower.look() == (None, [], [])
    run.train(10).flush()
    (run.path / LOG_NAME).unlink()
    reading = follower.look()
    assert reading.report is not None
    assert reading.report["step"] == 20


def test_damaged_lines_are_counted_and_passed_over(run: RecordedRun) -> None:
    run.train(10).flush()
    follower = ProgressFollower(run.path)
    follower.look()
    with (run.path / LOG_NAME).open("ab") as file:
        file.write(b'\x00\x00\xff\n{"event": 7}\n[1, 2]\n')
    run.train(2).flush()
    assert steps(follower.look()) == [11, 12]
    assert follower.damaged.count == 3


@pytest.mark.parametrize("event", [{"event": "step"}, {"event": "step", "step": "x", "epoch": 1, "time": 1.0}])
def test_an_event_without_its_figures_hides_no_other(run: RecordedRun, event: dict[str, Any]) -> None:
    run.train(5).flush()
    with (run.path / LOG_NAME).open("a") as file:
        file.write(json.dumps(event) + "\n")
    (run.path / REPORT_NAME).unlink()
    follower = ProgressFollower(run.path)
    reading = follower.look()
    assert reading.report is not None
    assert (reading.report["step"], follower.damaged.count) == (5, 1)


def test_a_log_without_a_run_in_it_is_refused_and_read_once(tmp_path: Path) -> None:
    log = tmp_path / LOG_NAME
    log.write_bytes(b"garbage\n" * 100)
    follower = ProgressFollower(tmp_path)
    for _ in range(3):
        with pytest.raises(UnreadableRecordError, match=r"progress\.jsonl: it is damaged"):
            follower.look()
    assert follower.bytes_read == 2 * 800, "two passes, once"
    RecordedRun(tmp_path, start=0.0).train(2).flush()
    assert follower.look().report is not None


def test_a_record_of_a_later_program_is_refused_by_its_version(run: RecordedRun) -> None:
    report = {**(read_report(run.path) or {}), "schema_version": 99}
    (run.path / REPORT_NAME).write_text(json.dumps(report))
    with pytest.raises(UnreadableRecordError, match="schema version 99, and this program reads 1"):
        ProgressFollower(run.path).look()
