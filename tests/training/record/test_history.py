"""The one fold: a run of any task, bounded or whole, read at once or continued from its report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes

from tests.support.recorded_runs import RecordedRun
from training.record.curve_figure import curve_figure
from training.record.history import History
from training.record.log import LOG_NAME, CountedEvents, counted, read_events, read_report, scan_marks
from training.record.report import MAX_EPOCHS, Report
from training.record.reporter import ProgressReporter
from training.record.schema import RESUMED_RUN, Event
from training.tasks.metrics import Metric

ERROR = Metric("mean_error", "MAE", "lower")


def regression(run_dir: Path | None, steps: int = 6, per_epoch: int = 3) -> ProgressReporter:
    """Record a run that counts samples and measures one figure of its own."""
    reporter = ProgressReporter(run_dir)
    reporter.run_started(steps_per_epoch=per_epoch, total_steps=steps, num_epochs=2, metrics=[ERROR.to_dict()])
    for step in range(1, steps + 1):
        reporter.step(
            step=step, epoch=(step - 1) // per_epoch + 1, batch=step, loss=1.0 / step, mean_error=2.0 * step,
            samples=4, samples_per_second=8.0, loss_tokens=step, learning_rate=1e-3, grad_norm=1.0, forward_ms=1.0,
            backward_ms=2.0,
        )  # fmt: skip
    reporter.evaluation(step=steps, epoch=2, loss=0.5, mean_error=0.25)
    return reporter


def test_a_task_without_accuracy_has_none_anywhere_in_its_report(tmp_path: Path) -> None:
    report = regression(tmp_path).report.to_dict()
    assert not {"accuracy", "perplexity", "tokens", "tokens_per_second"} & {
        *report["curve"], *report["latest"], *report["epochs"][0], *report["evaluations"][0],
    }  # fmt: skip
    assert report["curve"]["mean_error"] == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    assert report["curve"]["samples_per_second"] == [8.0] * 6
    assert report["epochs"][0] == {
        "epoch": 1, "step": 3, "loss": pytest.approx((1.0 + 2 / 2 + 3 / 3) / 6),
        "mean_error": pytest.approx((2.0 + 4.0 * 2 + 6.0 * 3) / 6), "samples": 12,
    }  # fmt: skip


def test_a_language_model_s_report_has_the_keys_that_it_always_had(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=0.0, validation=lambda epoch: 1.0).train(10).flush()
    report = run.reporter.report.to_dict()
    assert tuple(report["curve"]) == (
        "step", "epoch", "loss", "perplexity", "accuracy", "grad_norm", "learning_rate", "tokens_per_second",
        "forward_ms", "backward_ms", "skipped",
    )  # fmt: skip
    assert tuple(report["epochs"][0]) == ("epoch", "step", "loss", "perplexity", "accuracy", "tokens", "unfinished")
    assert tuple(report["evaluations"][0]) == ("step", "epoch", "loss", "accuracy", "perplexity")
    assert tuple(report) == (
        "schema_version", "run_id", "backend", "device", "total_steps", "num_epochs", "steps_per_epoch",
        "data_fingerprint", "vocab_size", "started_at", "state", "updated_at", "step", "batch", "training_seconds",
        "latest", "best", "curve", "curve_stride", "epochs", "evaluations", "checkpoints", "estimate", "memory",
        "warnings", "num_warnings", "num_skipped_updates",
    )  # fmt: skip


def test_the_figures_of_a_conclusion_stand_in_the_report_until_the_run_goes_on(tmp_path: Path) -> None:
    reporter = regression(tmp_path)
    reporter.run_finished(reason="all steps done")
    reporter.conclusion({"recitation": {"a": {"right": 1, "asked": 2}}, "step": "not a figure of its own"})
    report = read_report(tmp_path) or {}
    assert list(report)[-3:] == ["ended_at", "reason", "recitation"]
    assert (report["recitation"], report["step"]) == ({"a": {"right": 1, "asked": 2}}, 6)
    again = ProgressReporter(tmp_path)
    again.run_resumed(3)
    assert "recitation" not in (read_report(tmp_path) or {})


def test_settings_that_a_resumed_run_takes_over_stay_set_by_whoever_set_them(tmp_path: Path) -> None:
    reporter = ProgressReporter(tmp_path)
    reporter.run_started(settings_from={"run.epochs": "--epochs", "run.batch_size": "preset playground"})
    again = f"{RESUMED_RUN} (runs/a)"
    now = {"run.epochs": again, "run.batch_size": "--batch-size", "run.seed": again}
    reporter.run_resumed(0, settings_from=now)
    expected = {"run.epochs": "--epochs", "run.batch_size": "--batch-size"}
    assert reporter.report.to_dict()["settings_from"] == expected
    assert History.of(read_events(tmp_path / LOG_NAME)).facts["settings_from"] == expected


def test_a_recitation_of_an_older_log_is_one_too() -> None:
    report = Report.of([{"event": "recitation", "time": 1.0, "modules": {"a": {"right": 1, "asked": 1}}}])
    assert report.to_dict()["recitation"] == {"a": {"right": 1, "asked": 1}}


def test_the_whole_history_keeps_every_update_and_every_key(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=0.0, total_steps=3000).train(2500, batch_hash="ab").flush()
    history = History.of(read_events(run.path / LOG_NAME))
    assert [row.step for row in history.updates] == list(range(1, 2501))
    assert {row["batch_hash"] for row in history.updates} == {"ab"}
    assert len(history.epochs) == 250


def test_the_epochs_of_a_very_long_run_are_thinned_evenly_and_never_lost() -> None:
    report = Report()
    for epoch in range(1, 20_001):
        report.apply({"event": "step", "time": 0.0, "step": epoch, "epoch": epoch, "loss": 1.0})
        report.apply({"event": "eval", "time": 0.0, "step": epoch, "epoch": epoch, "loss": 1.0})
    for rows in (report.evaluations, report.epoch_rows[:-1]):
        assert MAX_EPOCHS // 2 <= len(rows) <= MAX_EPOCHS
        assert rows[0]["epoch"] < 100
        assert rows[-1]["epoch"] > 19_990


@st.composite
def recorded(draw: st.DrawFn) -> list[tuple[int, int | None]]:
    """Draw the parts of a run: (updates, step of the resumption after them or None)."""
    return draw(st.lists(st.tuples(st.integers(1, 25), st.none() | st.integers(0, 40)), min_size=1, max_size=5))


def record(path: Path, parts: list[tuple[int, int | None]]) -> RecordedRun:
    run = RecordedRun(path, start=0.0, total_steps=400, validation=lambda epoch: 1.0 / epoch)
    for steps, resumed in parts:
        run.train(steps, clipped=True).flush()
        if resumed is not None:
            run.wait(1.0).resume(min(resumed, run.step))
    return run


@settings(max_examples=40, deadline=None)
@given(recorded())
def test_a_log_is_rewound_alike_in_memory_and_in_a_stream(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int | None]]
) -> None:
    log = record(tmp_path_factory.mktemp("log") / "run", parts).path / LOG_NAME
    with log.open("rb") as file:
        assert list(CountedEvents(file)) == counted(read_events(log))
    steps = [event["step"] for event in counted(read_events(log)) if event["event"] == "step"]
    assert steps == list(range(1, len(steps) + 1))


@settings(max_examples=40, deadline=None)
@given(recorded(), st.integers(0, 30))
def test_a_report_that_is_gone_on_from_is_the_report_of_the_whole_log(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, int | None]], more: int
) -> None:
    run = record(tmp_path_factory.mktemp("log") / "run", parts)
    before: dict[str, Any] = read_report(run.path) or {}
    num_read = len(list(read_events(run.path / LOG_NAME)))
    open_epoch = (before.get("latest") or {}).get("epoch")
    report = Report.of_dict(before, scan_marks(run.path, open_epoch).open_epoch)
    run.train(more).flush()
    for event in list(read_events(run.path / LOG_NAME))[num_read - 1 :]:  # the first is in the report
        report.apply(event)
    assert report.to_dict() == read_report(run.path)


def test_a_log_of_ten_thousand_updates_is_folded_in_well_under_a_second(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=0.0, total_steps=10_000, report_batches=10_000).train().flush()
    with (run.path / LOG_NAME).open("rb") as file:
        began = time.process_time()
        report = Report.of_counted(CountedEvents(file))
    assert report.step == 10_000
    assert time.process_time() - began < 1.0


def test_the_figure_of_another_task_does_not_call_its_loss_a_cross_entropy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []
    monkeypatch.setattr(Axes, "set_ylabel", lambda axes, label: labels.append(label))
    language = RecordedRun(tmp_path / "run", start=0.0).train(10).reporter.report.to_dict()
    for report in (language, regression(None).report.to_dict()):
        assert curve_figure(report, None) is not None
    assert labels == ["cross-entropy per token, nats", "loss"]


# -- loops that are not ours ---------------------------------------------------------------------------------------


def foreign(*events: Event) -> list[Event]:
    started: Event = {"event": "run_started", "time": 1.0, "metrics": []}
    return [started, *({"time": 2.0 + n, **event} for n, event in enumerate(events))]


REWARD = {
    "name": "reward", "label": "reward", "better": "higher", "form": "number", "derived": "measured", "at": "updates",
}  # fmt: skip


def test_metrics_may_be_declared_when_they_are_first_logged() -> None:
    events = foreign(
        {"event": "step", "step": 1, "epoch": 1, "loss": 1.0},
        {"event": "metrics_declared", "metrics": [REWARD]},
        {"event": "step", "step": 2, "epoch": 1, "loss": 0.5, "reward": 3.0},
        {"event": "metrics_declared", "metrics": [REWARD]},  # said again by a reader that starts in the midst of it
    )
    report = Report.of(events).to_dict()
    assert report["metrics"] == [REWARD]
    assert report["curve"]["reward"] == [None, 3.0]
    assert report["epochs"][0]["reward"] == 3.0
    resumed = Report.of([*events, {"event": "run_resumed", "time": 9.0, "step": 2}]).to_dict()
    assert resumed["metrics"] == [REWARD]


def test_an_update_without_a_loss_is_no_update_whose_loss_is_not_finite() -> None:
    quiet = Report.of(foreign({"event": "step", "step": 1, "reward": 1.0}, {"event": "step", "step": 2, "loss": 1.0}))
    broken = Report.of(foreign({"event": "step", "step": 1, "loss": None}, {"event": "step", "step": 2, "loss": 1.0}))
    for report, expected in ((quiet, None), (broken, 1)):
        assert report.not_finite_at == expected
        assert Report.of_dict(report.to_dict()).not_finite_at == expected
