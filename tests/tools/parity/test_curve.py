"""The reader of runs: a curve is what the progress record says, however the run came about."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tests.support.simulated_runs import SimulatedRun
from tools.parity.curve import Curve, curve_of, read_curve
from tools.parity.difference import differences, relative
from training.record.reporter import LOG_NAME, ProgressReporter


def test_what_a_reporter_writes_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    events = list(SimulatedRun((1, 12), noise=1e-3).events())
    reporter = ProgressReporter(tmp_path, report_batches=3)
    reporter.run_started(weights_fingerprint=events[0]["weights_fingerprint"], device="cpu")
    for event in events:
        if event["event"] == "step":
            reporter.step(epoch=1, batch=event["step"], **{k: v for k, v in event.items() if k != "event"})
    reporter.run_finished(reason="all steps done")
    read = read_curve(tmp_path)
    assert read.updates == curve_of(events).updates
    assert read.weights_at_start == tuple(events[0]["weights_fingerprint"])
    assert read.facts == {"device": "cpu"}


def test_a_number_that_was_not_finite_is_read_as_such(tmp_path: Path) -> None:
    reporter = ProgressReporter(tmp_path)
    reporter.run_started()
    reporter.step(step=1, epoch=1, batch=1, loss=math.nan, grad_norm=math.inf, skipped=True)
    reporter.run_finished()
    (update,) = read_curve(tmp_path).updates
    assert math.isnan(update.loss)
    assert math.isnan(update.grad_norm)
    assert update.skipped
    assert (update.learning_rate, update.batch_hash, update.weights) == (None, None, None)


def test_what_a_resumed_run_did_again_counts_once(tmp_path: Path) -> None:
    log = [
        *SimulatedRun((1, 6)).events(),
        *SimulatedRun((4, 9), noise=0.1).events(),
    ]
    (tmp_path / LOG_NAME).write_text("".join(json.dumps(event) + "\n" for event in log), encoding="utf-8")
    read = read_curve(tmp_path)
    assert [update.step for update in read.updates] == list(range(1, 10))
    assert read.updates[3:] == curve_of(log[8:]).updates


def test_a_directory_without_a_record_has_an_empty_curve(tmp_path: Path) -> None:
    assert read_curve(tmp_path) == Curve()
    assert differences(Curve(), Curve()) == []


def test_relative_differences_at_the_edges() -> None:
    assert relative(0.0, 0.0) == relative(math.nan, math.nan) == relative(math.inf, math.inf) == 0.0
    assert relative(1.0, 0.0) == relative(math.nan, 1.0) == relative(1.0, math.inf) == math.inf
    assert relative(1.5, -1.0) == relative(-1.5, 1.0) == 2.5
