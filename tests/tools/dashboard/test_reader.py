"""What the dashboard knows of a run: at any moment what the record says, however the run got there."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from tools.dashboard.panels.frame import RunView
from tools.dashboard.panels.learning_rate import warm_restarts
from tools.dashboard.reader import FollowedRun
from training.loop.schedules import learning_rate_at
from training.record.history import EpochMean
from training.record.reporter import LOG_NAME, REPORT_NAME, read_report
from training.record.run_state import State
from training.settings.tree import ScheduleConfig

START = 1000.0


def follow(run: RecordedRun) -> FollowedRun:
    return FollowedRun(run.path, run.path.name)


def assert_is_the_record(view: RunView, run: RecordedRun) -> None:
    """Curves and means are those of the report, which the reporter folds from every event."""
    report = read_report(run.path)
    assert report is not None
    assert [(u.step, u.loss, u["grad_norm"]) for u in view.history.updates] == list(
        zip(*(report["curve"][key] for key in ("step", "loss", "grad_norm")), strict=True)
    )
    told = [EpochMean(e["epoch"], e["step"], e["loss"], bool(e.get("unfinished"))) for e in report["epochs"]]
    assert [e[:2] for e in view.history.epochs] == [e[:2] for e in told]
    assert [e.loss for e in view.history.epochs] == pytest.approx([e.loss for e in told], rel=1e-12)
    assert (view.history.step, view.history.peak_memory_bytes) == (report["step"], None)


@settings(deadline=None, max_examples=25)
@given(parts=st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=6))
def test_whenever_it_is_looked_at_the_curves_are_the_record_s(
    parts: list[tuple[int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = RecordedRun(tmp_path_factory.mktemp("looks") / "run", start=START, total_steps=200)
    followed = follow(run)
    for steps, is_resumed in parts:
        if is_resumed and run.step:
            run.wait(5).resume(run.step // 2)
        run.train(steps).flush()
        assert_is_the_record(followed.look(run.now), run)


def test_a_run_is_followed_from_before_it_begins_through_restart_and_deletion(tmp_path: Path) -> None:
    followed = FollowedRun(tmp_path / "run", "run")
    assert (followed.look(START).summary, followed.look(START).was_deleted) == (None, False)
    first = RecordedRun(tmp_path / "run", start=START).train(25).flush()
    assert_is_the_record(followed.look(first.now), first)
    again = RecordedRun(tmp_path / "run", start=9000.0).train(7).flush()  # the same directory, from the start
    view = followed.look(again.now)
    assert_is_the_record(view, again)
    for name in (LOG_NAME, REPORT_NAME):
        (tmp_path / "run" / name).unlink()
    view = followed.look(again.now)
    assert (view.summary, view.was_deleted, view.history.updates) == (None, True, [])
    once_more = RecordedRun(tmp_path / "run", start=9900.0).train(3).flush()
    assert_is_the_record(followed.look(once_more.now), once_more)


def test_half_a_line_waits_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START).train(5).flush()
    followed = follow(run)
    followed.look(run.now)
    run.train(2).flush()
    log = run.path / LOG_NAME
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    assert followed.look(run.now).history.step == 6
    log.write_bytes(whole + b'{"event": "step", "step": "x"}\n\x00\xff\n')
    view = followed.look(run.now)
    assert (view.history.step, view.summary is not None and view.summary.state) == (7, State.RUNNING)


def test_marks_are_those_of_every_update_and_go_when_a_run_is_resumed_before_them(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START, total_steps=5000, steps_per_epoch=2500)
    run.train(1001).train(1, clipped=True).train(10).train(1, skipped=True).flush()
    history = follow(run).look(run.now).history
    assert (history.clipped, history.skipped) == ([1002], [1013]), "though the report keeps each 25th update"
    live = follow(run)
    live.look(run.now)
    run.train(1, clipped=True).flush()
    assert live.look(run.now).history.clipped == [1002, 1014]
    run.wait(5).resume(1010).train(1).flush()
    for followed in (live, follow(run)):
        history = followed.look(run.now).history
        assert (history.clipped, history.skipped) == ([1002], [])


def test_a_mark_is_counted_once_where_the_log_is_ahead_of_the_report(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START, total_steps=200).train(30, clipped=True).flush()
    report = (run.path / REPORT_NAME).read_bytes()
    run.train(5, clipped=True).train(1, skipped=True).flush()
    (run.path / REPORT_NAME).write_bytes(report)  # it is written less often, and a kill may come between
    history = follow(run).look(run.now).history
    assert (history.step, history.clipped, history.skipped) == (36, list(range(1, 36)), [36])


def test_spikes_of_loss_and_gradient_are_marked_where_they_are(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START, loss=lambda step: 9.0 if step == 60 else 2.0 + 0.01 * (step % 5))
    run.train().flush()
    history = follow(run).look(run.now).history
    assert ([m.step for m in history.loss_spikes], history.norm_spikes) == ([60], [])


def test_a_run_without_its_log_keeps_what_its_report_says(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path / "run", start=START).train(25).flush()
    (run.path / LOG_NAME).unlink()
    history = follow(run).look(run.now).history
    assert [(e.epoch, e.is_open) for e in history.epochs] == [(1, False), (2, False), (3, True)]


def test_an_animation_s_moment_holds_nothing_of_what_came_later(tmp_path: Path) -> None:
    run = (
        RecordedRun(tmp_path / "run", start=START, validation=lambda epoch: 1.0 / epoch).train(45, clipped=True).flush()
    )
    then = follow(run).look(run.now).history.until(20)
    assert (then.updates[-1].step, then.latest, then.clipped) == (20, then.updates[-1], list(range(1, 21)))
    assert [e.step for e in then.epochs] == [10, 20]


@settings(deadline=None, max_examples=60)
@given(
    first=st.sampled_from([0.5, 1.0, 2.5, 10.0]), factor=st.sampled_from([1.0, 1.5, 2.0]), warmup=st.integers(0, 7),
    per_epoch=st.integers(3, 40),
)  # fmt: skip
def test_warm_restarts_are_marked_where_the_schedule_begins_anew(
    first: float, factor: float, warmup: int, per_epoch: int
) -> None:
    config = ScheduleConfig(
        schedule="warm_restarts", min_lr=1e-6, warmup_steps=warmup, restart_epochs=first, restart_mult=factor
    )
    rate = learning_rate_at(config, 1.0, per_epoch, 400)
    rises = [step + 1 for step in range(warmup + 1, 400) if rate(step) > rate(step - 1)]
    names = ("schedule", "restart_epochs", "restart_mult", "warmup_steps")
    flat = {f"schedule.{name}": getattr(config, name) for name in names}
    found = warm_restarts(flat, per_epoch, 400)
    # Of cycles of one or two updates the closed form marks each; a rise can be seen of longer ones.
    assert found == rises or (first * per_epoch < 3 and set(rises) <= set(found))
    assert warm_restarts({**flat, "schedule.schedule": "cosine"}, per_epoch, 400) == []
    assert not math.isnan(rate(0))
