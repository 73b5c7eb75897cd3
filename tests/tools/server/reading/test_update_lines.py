"""Updates read many at a time are the same as those read line by line, whatever stands in the log."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from tools.server.reading import history, update_lines
from tools.server.reading.history import Buckets, RunCurve
from tools.server.reading.update_lines import Form, Updates, read_updates
from training.record.log import LOG_NAME, CountedEvents
from training.record.schema import parse_event

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**25), 10**25),
    st.sampled_from([0, -0.0, 1e-308, 5e-324, 1.7976931348623157e308]),
)
RAW = [
    b"nonsense\n",
    b"\n",
    b'{"event": "step", "time": 1.0, "step": 3, "loss": NaN}\n',
    b'{"event": "step", "time": 1.0, "step": 3, "loss": 1e999, "tokens": 5}\n',
    b'{"event": "step", "time": 1.0, "step": 03, "loss": 1.0, "tokens": 5}\n',
    b'{"event": "step", "time": 1.0, "step": 3, "step": 4, "loss": 1.0}\n',
    b'{"event": "step", "time": 1.0, "step": 3, "loss": 1.0, "tokens": 5}\r\n',
    b'{"event": "step", "time": 1.0, "step": -3, "loss": 1.0, "tokens": 5}\n',
    b'{"event": "step", "time": 1.0, "step": 3, "loss": true, "tokens": 5}\n',
    b'{"event":"step","time":1.0,"step":3,"loss":1.0,"tokens":5}\n',
    b'{"event": "step", "time": 1.0, "step": 3, "loss": 1., "tokens": 5}\n',
    b'{"event": "run_started", "time": 1.0, "steps_per_epoch": 4}\n',
    b'{"event": "run_started", "time": 2.0, "metrics": []}\n',
]


def step_line(step: int, loss: Any, further: dict[str, Any]) -> bytes:
    event = {"event": "step", "time": 1000.0 + step / 8, "step": step, "loss": loss, "tokens": 5, **further}
    return (json.dumps(event, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


FURTHER = st.sampled_from(
    [{}, {}, {}, {"clipped": True}, {"accuracy": 0.5}, {"batch_hash": "00ff"}, {"batch_hash": 'é"'}, {"epoch": 2}]
)
LINES = st.one_of(
    st.builds(step_line, st.integers(0, 60), st.one_of(NUMBERS, st.none()), FURTHER),
    st.builds(step_line, st.integers(0, 60), st.floats(0, 10), st.builds(lambda value: {"other": value}, NUMBERS)),
    st.builds(lambda step: json.dumps({"event": "run_resumed", "step": step}).encode() + b"\n", st.integers(0, 60)),
    st.builds(
        lambda step: json.dumps({"event": "eval", "step": step, "loss": 1.0}).encode() + b"\n", st.integers(0, 60)
    ),
    st.sampled_from(RAW),
)


def one_by_one(content: bytes) -> RunCurve:
    curve = RunCurve()
    for event in CountedEvents(io.BytesIO(content)):
        curve.apply(event)
    return curve


def many_at_a_time(content: bytes) -> RunCurve:
    curve = RunCurve()
    for found in read_updates(CountedEvents(io.BytesIO(content)).blocks()):
        if isinstance(found, Updates):
            curve.extend(found)
        else:
            curve.apply(found)
    return curve


@given(st.lists(LINES, max_size=60), st.sampled_from([1, 3, 1024]))
@settings(max_examples=400, deadline=None)
def test_any_log_gives_the_same_curve_both_ways(lines: list[bytes], at_once: int) -> None:
    content = b"".join(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update_lines, "UPDATES_AT_ONCE", at_once)
        found = many_at_a_time(content)
    assert found.to_dict(1000) == one_by_one(content).to_dict(1000)


@given(st.integers(1, 200), st.lists(st.integers(1, 40), max_size=8), st.sampled_from([2, 8, 16]))
@settings(max_examples=200, deadline=None)
def test_rows_in_any_portions_make_the_same_buckets(total: int, portions: list[int], most: int) -> None:
    values = np.sin(np.arange(total) * 1.7)
    values[::7] = np.nan
    one, many = Buckets(most), Buckets(most)
    for step, value in enumerate(values.tolist(), start=1):
        one.add((step, step / 2, step, step), {} if value != value else {"loss": value}, [])
    start = 0
    for portion in [*portions, total]:
        end = min(total, start + portion)
        if end > start:
            steps = np.arange(start + 1, end + 1, dtype=np.float64)
            places = {"step": steps, "seconds": steps / 2, "tokens": steps, "epoch": steps}
            many.extend(places, {"loss": values[start:end]})
        start = end
    assert (one.rows, one.stride, one.axes) == (many.rows, many.stride, many.axes)
    for name in ("value", "low", "high"):
        left, right = (np.array(getattr(buckets.columns["loss"], name)) if total > 1 else 0 for buckets in (one, many))
        assert np.array_equal(left, right, equal_nan=True)


def test_the_lines_of_the_reporter_are_of_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RecordedRun(tmp_path / "run", start=1e9).train(60).flush().resume(40).train().finish()
    content = (run.path / LOG_NAME).read_bytes()
    parsed: list[bytes] = []

    def counted_parse(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def parse_and_count(line: bytes) -> Any:
            parsed.append(line)
            return parse(line)

        return parse_and_count

    monkeypatch.setattr(update_lines, "parse_event", counted_parse(parse_event))
    found = many_at_a_time(content)
    assert found.updates.rows == 100
    assert len(parsed) == 4, "the beginning, one update, the resumption and the end"
    assert found.to_dict(1000) == one_by_one(content).to_dict(1000)
    assert history.MOST_BUCKETS % 2 == 0


def test_a_line_that_another_program_has_written_has_no_form() -> None:
    event = {"event": "step", "step": 3, "loss": 1.0}
    assert Form.of(b'{"event": "step", "step": 3, "loss": 1.0}\n', event) is not None
    assert Form.of(b'{"step": 3, "event": "step", "loss": 1.0}\n', event) is None
    assert Form.of(b'{"event": "step", "step": 3, "loss": 1.00}\n', event) is None
    assert Form.of(b'{"event": "step", "step": 3, "loss": [1]}\n', {**event, "loss": [1]}) is None
