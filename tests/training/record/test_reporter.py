"""The record of a run: append-only, bounded, atomic, and a fold of its own events."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.record.report import MAX_POINTS, MAX_POINTS_PER_EPOCH, Report
from training.record.reporter import LOG_NAME, REPORT_NAME, ProgressReporter, read_events, read_report
from training.tasks.metrics import PERPLEXITY


def begin(run_dir: Path | None, steps_per_epoch: int = 10, report_batches: int = 10) -> ProgressReporter:
    if run_dir is not None:
        run_dir.mkdir(exist_ok=True)
    reporter = ProgressReporter(run_dir, report_batches)
    reporter.run_started(run_id="r", steps_per_epoch=steps_per_epoch, total_steps=1000, num_epochs=100)
    return reporter


def take_step(reporter: ProgressReporter, step: int, steps_per_epoch: int = 10, **more: Any) -> None:
    figures = {
        "loss": 1.0 / step,
        "accuracy": 0.5,
        "grad_norm": 1.0,
        "learning_rate": 1e-3,
        "tokens": 7,
        "loss_tokens": 3,
    }
    reporter.step(step=step, epoch=(step - 1) // steps_per_epoch + 1, batch=step, **{**figures, **more})


def test_the_report_is_the_fold_of_the_log(tmp_path: Path) -> None:
    reporter = begin(tmp_path)
    for step in range(1, 36):
        take_step(reporter, step)
    reporter.evaluation(step=35, epoch=4, loss=0.5, accuracy=0.9)
    reporter.run_finished(reason="all steps done")
    assert Report.of(read_events(tmp_path / LOG_NAME)).to_dict() == read_report(tmp_path)


def test_the_report_is_renewed_every_ten_batches_and_not_in_between(tmp_path: Path) -> None:
    reporter = begin(tmp_path)
    seen = []
    for step in range(1, 31):
        take_step(reporter, step)
        report = read_report(tmp_path)
        assert report is not None
        seen.append(report["batch"])
    assert seen == [0] * 9 + [10] * 10 + [20] * 10 + [30]


def test_batches_of_accumulation_count_as_batches(tmp_path: Path) -> None:
    reporter = begin(tmp_path)
    for step in range(1, 4):
        reporter.step(step=step, epoch=1, batch=step * 4, loss=1.0, tokens=1)
    report = read_report(tmp_path)
    assert report is not None
    assert report["batch"] == 12, "the third update passed ten batches"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 5000))
def test_a_report_stays_small_however_long_the_run(steps_per_epoch: int, total: int) -> None:
    reporter = begin(None, steps_per_epoch)
    for step in range(1, total + 1):
        take_step(reporter, step, steps_per_epoch)
    report = reporter.report.to_dict()
    points = report["curve"]["step"]
    assert len(points) <= MAX_POINTS
    for epoch in set(report["curve"]["epoch"]):
        assert report["curve"]["epoch"].count(epoch) <= MAX_POINTS_PER_EPOCH
    assert {b - a for a, b in itertools.pairwise(points)} <= {report["curve_stride"]}, "evenly spaced"
    assert report["latest"]["step"] == total, "thinning never hides where the run is"


def test_the_mean_of_an_epoch_weighs_updates_by_their_tokens(tmp_path: Path) -> None:
    reporter = begin(None, steps_per_epoch=2)
    take_step(reporter, 1, 2, loss=1.0, loss_tokens=1)
    take_step(reporter, 2, 2, loss=4.0, loss_tokens=3)
    take_step(reporter, 3, 2, loss=9.0)
    first = reporter.report.to_dict()["epochs"][0]
    assert first["loss"] == pytest.approx((1.0 + 4.0 * 3) / 4)
    assert "unfinished" in reporter.report.to_dict()["epochs"][1]


def test_a_number_that_is_not_finite_is_null_and_named(tmp_path: Path) -> None:
    reporter = begin(tmp_path)
    take_step(reporter, 1, loss=math.nan, grad_norm=math.inf)
    reporter.flush()
    text = (tmp_path / LOG_NAME).read_text(encoding="utf-8")
    event = json.loads(text.splitlines()[-1], parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert (event["loss"], event["grad_norm"], event["nonfinite"]) == (None, None, ["loss", "grad_norm"])


@pytest.mark.parametrize("loss", [0.0, 1.0, 699.0, 701.0, 1e308])
def test_perplexity_never_overflows(loss: float) -> None:
    value = PERPLEXITY.of_loss(loss)
    assert value is None if loss > 700 else value == math.exp(loss)


@given(st.integers(1, 60), st.integers(0, 60), st.binary(max_size=30).filter(lambda b: b"\n" not in b))
@settings(max_examples=25, deadline=None)
def test_a_record_cut_by_a_kill_and_resumed_anywhere_has_no_gap_and_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, killed_at: int, resumed_at: int, torn: bytes
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    resumed_at = min(resumed_at, killed_at)
    first = begin(run_dir, report_batches=1)
    for step in range(1, killed_at + 1):
        take_step(first, step)
    with (run_dir / LOG_NAME).open("ab") as file:
        file.write(torn)  # the line that the kill cut short
    second = ProgressReporter(run_dir, report_batches=1)
    second.run_resumed(resumed_at, run_id="r", steps_per_epoch=10, total_steps=1000, epochs=100)
    for step in range(resumed_at + 1, 65):
        take_step(second, step)
    report = read_report(run_dir)
    assert report is not None
    assert report["curve"]["step"] == list(range(1, 65))
    assert [e["epoch"] for e in report["epochs"]] == list(range(1, 8))
    assert [e["tokens"] for e in report["epochs"]] == [70] * 6 + [28]
    assert report == Report.of(read_events(run_dir / LOG_NAME)).to_dict()


def test_a_reader_never_sees_half_a_line(tmp_path: Path) -> None:
    log = tmp_path / LOG_NAME
    log.write_bytes(b'{"event": "step", "time": 1, "step": 1}\nnot json\n{"event": "some_new_event"}\n{"event": "st')
    assert [e["event"] for e in read_events(log)] == ["step", "some_new_event"]
    report = Report()
    report.apply({"event": "some_new_event", "time": 5.0})
    assert report.updated_at == 5.0, "an unknown event is no fault"


def test_there_is_no_report_before_there_is_one(tmp_path: Path) -> None:
    assert read_report(tmp_path) is None
    (tmp_path / REPORT_NAME).write_text('{"half', encoding="utf-8")
    assert read_report(tmp_path) is None


def test_a_sink_that_fails_is_dropped_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def event(self, event: dict[str, Any]) -> None:
            raise RuntimeError("no network")

        def close(self) -> None:
            raise AssertionError("a dropped sink is not closed")

    reporter = ProgressReporter(tmp_path, 10, [Broken()])
    reporter.run_started(steps_per_epoch=10, total_steps=10, num_epochs=1)
    take_step(reporter, 1)
    reporter.close()
    assert capsys.readouterr().err.count("Broken failed and is switched off (no network)") == 1
