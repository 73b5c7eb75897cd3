"""Whatever a line of a log holds: it is an event of the schema, or it is skipped and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from training.record.follower import ProgressFollower
from training.record.history import History
from training.record.log import LOG_NAME, REPORT_NAME, read_events, read_report, scan_marks
from training.record.report import Report
from training.record.schema import EVENTS, declared_metrics, fits, parse_event
from training.tasks.metrics import ACCURACY, LANGUAGE_METRICS

KEYS = ("time", *sorted({key for schema in EVENTS.values() for key in (*schema.required, *schema.optional)}))
REPORT_KEYS = (*KEYS, "curve", "epochs", "latest", "evaluations", "best", "memory")
VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3) | st.floats() | st.integers() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FOREIGN = st.builds(
    lambda name, keys: {**keys, "event": name},
    st.sampled_from(sorted(EVENTS)),
    st.dictionaries(st.sampled_from(KEYS), VALUES),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(FOREIGN, max_size=8))
def test_whatever_fits_the_schema_is_folded_without_a_fault(events: list[dict[str, Any]]) -> None:
    kept = [event for event in events if fits(event)]
    History.of(kept)
    json.dumps(Report.of(kept).to_dict())


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(REPORT_KEYS), VALUES),
    FOREIGN,
)
def test_a_report_of_any_content_is_a_state_to_go_on_from(data: dict[str, Any], event: dict[str, Any]) -> None:
    report = Report.of_dict(data)
    if fits(event):
        report.apply(event)
    report.to_dict()


@pytest.mark.parametrize(
    "line",
    [
        b"", b"7", b"[]", b"{}", b"\x00\xff", b'{"event": 7}', b'{"event": "step"}', b'{"event": "step", "step": "x"}',
        b'{"event": "step", "step": -1}', b'{"event": "step", "step": true}',
        b'{"event": "step", "step": 1, "loss": 1e999}',
        b'{"event": "step", "step": 1, "loss": "low"}', b'{"event": "step", "step": ' + b"9" * 5000 + b"}",
        b'{"event": "step", "step": ' + b"9" * 30 + b"}",
        b'{"event": "memory", "kind": "resident", "peak_bytes": [null]}',
        b'{"event": "eval", "step": 1, "time": []}', b"[" * 100_000, b'{"event": ' * 5000,
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_line_is_no_event(line: bytes) -> None:
    assert parse_event(line) is None


def test_the_reporter_writes_what_the_schema_says(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=0.0, total_steps=20, validation=lambda epoch: 1.0 / epoch).train(5)
    reporter = run.reporter
    reporter.introduced(["model   a line"])
    reporter.metrics_declared([ACCURACY])
    reporter.memory(5, "resident", [1, 2])
    reporter.estimate(5, {"training_seconds": 3.0})
    reporter.warning("hot", step=5)
    reporter.samples(5, ["samples/step_000005.png"])
    (tmp_path / "run" / "checkpoint_5").mkdir()
    reporter.checkpoint(tmp_path / "run" / "checkpoint_5", 5)
    run.resume(5)
    run.reporter.resumed_from(tmp_path / "run" / "checkpoint_5", 5, 20, ["another torch"])
    run.train().finish()
    run.reporter.final_model(tmp_path / "run" / "final_model", 20, ["saved"])
    run.reporter.conclusion({"recitation": {"a": {"right": 1, "asked": 2}}}, ["1 of 2"])
    run.reporter.said(["good bye"])
    run.reporter.recitation({})
    run.reporter.run_stopped(reason="SIGTERM")
    run.reporter.run_failed(ValueError("x"))
    lines = (tmp_path / "run" / LOG_NAME).read_bytes().splitlines()
    events = [parse_event(line) for line in lines]
    assert None not in events
    assert {event["event"] for event in events if event} == set(EVENTS)


def test_deep_nesting_and_huge_numbers_hide_no_update(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=0.0).train(5).flush()
    with (run.path / LOG_NAME).open("ab") as file:
        file.write(b"[" * 100_000 + b"\n" + b'{"event": "step", "time": 1, "step": ' + b"9" * 5000 + b"}\n")
    run.train(5).flush()
    assert [event["step"] for event in read_events(run.path / LOG_NAME) if event["event"] == "step"] == list(
        range(1, 11)
    )
    assert scan_marks(run.path, 1).open_epoch[-1]["step"] == 10
    (run.path / REPORT_NAME).write_bytes(b"[" * 100_000)
    assert read_report(run.path) is None
    follower = ProgressFollower(run.path)
    report = follower.look().report
    assert report is not None
    assert (report["step"], follower.damaged.count) == (10, 2)


def test_metrics_are_those_that_the_run_declares() -> None:
    assert declared_metrics({}) == LANGUAGE_METRICS, "as in all records from before metrics were declared"
    assert declared_metrics({"metrics": []}) == ()
    later = {**ACCURACY.to_dict(), "of_a_later_version": 1}
    assert declared_metrics(
        {"metrics": [later, {"name": "no label"}, 7, {"name": 1, "label": "x", "better": "lower"}]}
    ) == (ACCURACY,)
    assert declared_metrics({"metrics": "accuracy"}) == ()
