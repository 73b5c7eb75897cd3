"""What the monitor makes of records: state, pace, spikes, alerts, leaderboard, order."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.recorded_runs import RecordedRun
from tools.monitoring.leaderboard import leaderboards
from tools.monitoring.order import ORDERS, in_order
from tools.runs.fleet import SEARCH_EVERY, Fleet
from tools.runs.summary import RunSummary, WatchedRun
from training.checkpoints.run_lock import LOCK_NAME, RunLock
from training.record.alerts import Kind
from training.record.reporter import LOG_NAME, REPORT_NAME, read_events, read_report
from training.record.run_state import State
from training.record.trace import SpikeWatch, Trace, spans

NOW = 1_000_000.0


def seen(run: RecordedRun, at: float = 1.0) -> RunSummary:
    """The run so many seconds after its last event, by a monitor that is only started then."""
    watched = WatchedRun(run.path, run.path.name)
    watched.look(run.now + at)
    return watched.summary(run.now + at)


def kinds(run: RunSummary) -> list[Kind]:
    return [alert.kind for alert in run.alerts]


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., RecordedRun]:
    def make(name: str = "run", **settings: object) -> RecordedRun:
        return RecordedRun(tmp_path / name, start=NOW - 1000.0, **settings)  # type: ignore[arg-type]

    return make


Record = Callable[..., RecordedRun]


# -- state ---------------------------------------------------------------------------------------------------------


def test_a_run_is_starting_then_running_then_finished(record: Record) -> None:
    run = record().flush()
    assert seen(run).state is State.STARTING
    assert seen(run.train(20).flush()).state is State.RUNNING
    assert seen(run.train().finish()).state is State.FINISHED


def test_stopped_and_failed_runs_say_why(record: Record) -> None:
    stopped, failed = record("a").train(5), record("b").train(5)
    stopped.reporter.run_stopped(reason="SIGTERM")
    failed.reporter.run_failed(RuntimeError("the disk is gone"))
    assert (seen(stopped).state, seen(stopped).reason) == (State.STOPPED, "SIGTERM")
    summary = seen(failed, at=99_999.0)
    assert summary.state is State.FAILED, "not stalled, however long ago"
    assert [a.message for a in summary.alerts] == ["failed at step 5: RuntimeError: the disk is gone"]


@pytest.mark.parametrize(("seconds", "silence"), [(0.1, 60.0), (30.0, 1500.0)])
def test_a_silent_run_is_stalled_by_its_own_pace(record: Record, seconds: float, silence: float) -> None:
    run = record(seconds=seconds).train(20).flush()
    assert seen(run, at=silence - 1.0).state is State.RUNNING
    stalled = seen(run, at=silence + 1.0)
    assert stalled.state is State.STALLED
    assert kinds(stalled) == [Kind.STALLED]
    assert (stalled.eta_seconds, stalled.speed) == (None, None), "it has no pace now"


def test_a_run_that_reports_rarely_is_given_the_time(record: Record) -> None:
    run = record(seconds=2.0, settings={"report": {"report_batches": 100}}).train(20).flush()
    assert seen(run, at=900.0).state is State.RUNNING
    assert seen(run, at=1100.0).state is State.STALLED


def test_a_run_whose_process_is_gone_is_lost_and_not_stalled(record: Record) -> None:
    run = record().train(20).flush()
    lock = RunLock.take(run.path)
    assert lock is not None
    document = json.loads((run.path / LOCK_NAME).read_text())
    assert seen(run, at=1e6).state is State.STALLED, "its process is this one, which lives"
    lock.release()
    document["process"] = document["process"].rpartition("/")[0] + "/1"  # the same pid, started at another time
    (run.path / LOCK_NAME).write_text(json.dumps(document))
    lost = seen(run)
    assert (lost.state, lost.speed, kinds(lost)) == (State.LOST, None, [Kind.LOST])
    assert seen(run.train().finish()).state is State.FINISHED


def test_a_wrong_clock_on_the_run_s_computer_stalls_nothing(record: Record) -> None:
    run = record().train(10).flush()
    watched = WatchedRun(run.path, "run")
    ours = run.now + 7200.0  # its clock is two hours behind ours
    watched.look(ours)
    run.train(10).flush()
    watched.look(ours + 10.0)
    assert watched.summary(ours + 12.0).state is State.RUNNING
    assert watched.summary(ours + 12.0).silent_seconds == 2.0


def test_eta_is_told_by_the_present_pace(record: Record) -> None:
    run = record(seconds=10.0, total_steps=1000).train(50)
    run._seconds = 1.0
    summary = seen(run.train(450).flush())
    assert summary.eta_seconds == pytest.approx(500.0, rel=0.01)
    assert summary.progress == 0.5


# -- following -----------------------------------------------------------------------------------------------------


def test_a_run_that_was_followed_shows_what_one_shows_that_is_read_at_its_end(record: Record) -> None:
    run = record(total_steps=400, validation=lambda epoch: 2.0 / epoch).train(33).flush()
    watched = WatchedRun(run.path, run.path.name)
    watched.look(run.now)
    while run.step < 400:
        run.train(min(17, 400 - run.step)).flush()
        watched.look(run.now)
        if run.step == 203:
            run.wait(3.0).resume(150)
    run.finish()
    watched.look(run.now)
    followed, fresh = watched.summary(run.now), seen(run, at=0.0)
    for figure in ("step", "epoch", "loss", "best_loss", "best_step", "figures", "state", "points", "evaluations",
                   "updated_at", "ended_at", "progress"):  # fmt: skip
        assert getattr(followed, figure) == getattr(fresh, figure), figure


KEYS = ("step", "state", "curve", "best", "latest", "evaluations", "curve_stride", "total_steps", "error", "time")
ANYTHING = st.none() | st.booleans() | st.text() | st.floats() | st.lists(st.integers())


@given(text=st.dictionaries(st.sampled_from(KEYS), ANYTHING | st.dictionaries(st.text(), st.text())))
def test_a_report_of_other_types_is_no_crash(text: dict[str, object]) -> None:
    trace = Trace(text)
    for event in ({"event": "step"}, {"event": "eval", "step": None}, {"event": "best"}, {"event": "run_failed"}):
        trace.apply({**event, **text})
    assert trace.step >= 0 or isinstance(text.get("step"), int)


def test_memory_is_bounded_however_long_a_run_is_followed() -> None:
    trace = Trace({})
    for step in range(1, 20_001):
        trace.apply({"event": "step", "time": float(step), "step": step, "loss": 1.0})
        trace.apply({"event": "eval", "time": float(step), "step": step, "epoch": step, "loss": 1.0})
    assert len(trace.updates) <= 1000
    assert len(trace.evaluations) <= 501
    assert trace.evaluations[-1].step > 19_000
    assert trace.updates[0].step < 100, "the whole run, evenly"


# -- alerts --------------------------------------------------------------------------------------------------------


def test_a_healthy_run_gives_no_alert(record: Record) -> None:
    run = record(total_steps=1000, validation=lambda epoch: 3.0 / epoch).train(900).flush()
    assert seen(run).alerts == ()


def test_a_spike_is_told_with_its_step_and_size(record: Record) -> None:
    run = record(total_steps=200, loss=lambda step: 6.0 if step in (90, 91, 150) else 2.0 - step / 200).train().finish()
    (alert,) = seen(run).alerts
    assert alert.message == "2 loss spikes, the last at step 150: 6 after a median of 1.375"


def test_the_bounces_of_a_loss_near_zero_are_no_spikes() -> None:
    watch = SpikeWatch()
    for step in range(500):
        watch.add(step, 4.0 * math.exp(-step / 30) + (0.02 if step % 40 == 0 else 0.001))
    assert watch.count == 0


def test_a_loss_that_stays_high_counts_once() -> None:
    watch = SpikeWatch()
    for step in range(200):
        watch.add(step, 1.0 if step < 100 else 3.0)
    assert watch.count == 1


def test_a_loss_that_is_not_finite_is_told(record: Record) -> None:
    run = record(loss=lambda step: math.nan if step in (30, 31) else 1.0).train(29).flush()
    watched = WatchedRun(run.path, "run")
    watched.look(run.now)
    run.train(2, skipped=True).flush()
    watched.look(run.now)
    for summary in (watched.summary(run.now), seen(run)):
        assert [a.message for a in summary.alerts] == ["loss not finite, last at step 31; 2 updates skipped"]
        assert summary.loss is None


def test_updates_that_were_skipped_are_told_except_where_fp16_looks_for_its_loss_scale(record: Record) -> None:
    for precision, told in (
        ("bf16", ["gradient not finite; 2 updates skipped"]), ("fp32", ["gradient not finite; 2 updates skipped"]),
        ("fp16", []),
    ):  # fmt: skip
        run = record(precision, settings={"run": {"precision": precision}}).train(5).train(2, skipped=True).flush()
        assert [alert.message for alert in seen(run).alerts] == told


def test_overfitting_is_validation_rising_while_training_falls(record: Record) -> None:
    run = record(loss=lambda step: 2.0 / step, validation=lambda epoch: 1.0 + 0.1 * abs(epoch - 4)).train(60).flush()
    assert kinds(seen(run)) == [], "two validations after the lowest are too few"
    (alert,) = seen(run.train(20).flush()).alerts
    assert alert.kind is Kind.OVERFITTING
    assert alert.message.startswith("overfitting since epoch 4: validation 1 -> 1.4, training 0.05")


def test_a_run_whose_training_rises_too_does_not_overfit(record: Record) -> None:
    run = record(loss=lambda step: 1.0 + step / 50, validation=lambda epoch: 1.0 + 0.1 * abs(epoch - 4)).train(80)
    assert kinds(seen(run.flush())) == []


def test_each_alert_is_told_once_however_often_it_is_looked_at(record: Record, tmp_path: Path) -> None:
    run = record(loss=lambda step: 9.0 if step % 60 == 59 else 1.0, total_steps=500).train(100).flush()
    fleet = Fleet([tmp_path])
    for _ in range(6):
        run.train(50).flush()
        alerts = fleet.alerts(fleet.look(run.now), run.now)
        assert [alert.kind for _, alert in alerts] == [Kind.SPIKING]


# -- the fleet -----------------------------------------------------------------------------------------------------


def test_real_runs_and_recorded_ones_are_found_at_any_depth(finished_run: Path, record: Record, tmp_path: Path) -> None:
    record("deep/er/live").train(3).flush()
    runs = {run.name: run for run in Fleet([tmp_path]).look(NOW)}
    assert sorted(runs) == ["deep/er/live", "run"]
    real = runs["run"]
    report = read_report(finished_run) or {}
    assert (real.state, real.backend, real.step, real.progress) == (State.FINISHED, "playground", 4, 1.0)
    assert real.loss == report["latest"]["loss"]
    assert real.best_loss == report["best"]["loss"]
    assert real.settings["model.d_model"] == 16


def test_runs_may_come_and_go(record: Record, tmp_path: Path) -> None:
    fleet = Fleet([tmp_path])
    assert fleet.look(NOW) == []
    record("a").train(3).flush()
    assert [run.name for run in fleet.look(NOW + SEARCH_EVERY + 1)] == ["a"]
    shutil.rmtree(tmp_path / "a")
    assert fleet.look(NOW + SEARCH_EVERY + 2) == []


def test_a_broken_run_hides_no_other(record: Record, tmp_path: Path) -> None:
    record("good").train(3).flush()
    for name, file, content in (
        ("log", LOG_NAME, b"\xff\xfe\n\n"), ("report", REPORT_NAME, b"[]"), ("version", REPORT_NAME, b'{"a": 1}'),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(content)
    (tmp_path / "directory" / LOG_NAME).mkdir(parents=True)
    (tmp_path / "directory" / REPORT_NAME).write_text("{}")
    runs = {run.name: run for run in Fleet([tmp_path]).look(NOW - 990.0)}
    assert runs.pop("good").state is State.RUNNING
    assert sorted(runs) == ["directory", "log", "report", "version"]
    assert {run.state for run in runs.values()} == {State.UNREADABLE}
    assert all(str(run.path) in run.reason and "\n" not in run.reason for run in runs.values())


def test_one_run_given_twice_is_shown_once_and_a_run_directory_itself_is_a_root(record: Record, tmp_path: Path) -> None:
    run = record("a").train(3).flush()
    assert [r.name for r in Fleet([run.path]).look(NOW)] == ["a"]
    assert len(Fleet([tmp_path, run.path]).look(NOW)) == 1


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_takes_runs_of_which_nothing_is_known(order: str, record: Record, tmp_path: Path) -> None:
    record("full", validation=lambda epoch: 1.0).train(30).flush()
    record("empty").flush()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / LOG_NAME).write_bytes(b"x\n")
    runs = in_order(Fleet([tmp_path]).look(NOW - 960.0), order)
    assert {run.name for run in runs} == {"full", "empty", "broken"}
    assert order in ("name", "age") or runs[0].name == "full"


# -- the leaderboard -----------------------------------------------------------------------------------------------


def test_only_runs_of_the_same_loss_on_the_same_data_are_compared(record: Record, tmp_path: Path) -> None:
    def of(name: str, value: float, data: str = "d1", **settings: dict[str, object]) -> None:
        record(name, validation=lambda epoch: value / epoch, data=data, settings=settings).train(20).flush()

    of("a", 2.0, model={"attention": "standard"})
    of("b", 1.0)
    of("other_data", 0.1, data="d2")
    of("other_length", 0.1, model={"max_seq_len": 9})
    record("no_validation").train(20).flush()
    (board,) = leaderboards(Fleet([tmp_path]).look(NOW))
    assert [(e.place, e.run.name, e.loss) for e in board.entries] == [(1, "b", 0.5), (2, "a", 1.0)]
    assert board.measure == "lowest validation loss"
    assert [e.differs for e in board.entries] == [
        {"model.attention": "autopoietic"}, {"model.attention": "standard"},
    ]  # fmt: skip
    assert board.caveat == ""


def test_options_of_the_backends_are_no_difference_between_runs(record: Record, tmp_path: Path) -> None:
    """Each run has its own backend's section alone."""
    of = {
        "playground": {"playground": {"compile": False}, "model": {"attention": "standard"}},
        "deepspeed": {"deepspeed": {"zero_stage": 2}},
    }
    for backend, settings in of.items():
        record(backend, backend=backend, validation=lambda epoch: 1.0, settings=settings).train(20).flush()
    (board,) = leaderboards(Fleet([tmp_path]).look(NOW))
    assert [set(entry.differs) for entry in board.entries] == [{"model.attention"}] * 2


def test_different_seeds_are_compared_and_the_caveat_is_told(record: Record, tmp_path: Path) -> None:
    for seed in (1, 2):
        record(f"s{seed}", validation=lambda epoch: 1.0, settings={"run": {"seed": seed}}).train(20).flush()
    (board,) = leaderboards(Fleet([tmp_path]).look(NOW))
    assert board.caveat == "the seeds differ, so the rows held back do too"


# -- when a run was at work ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [100, 4000])
def test_pauses_are_found_in_short_logs_and_in_sampled_ones(record: Record, count: int) -> None:
    run = record(total_steps=2 * count, report_batches=count).train(count).flush()
    stopped = run.now
    run.wait(3600.0).train().finish()
    (_, end), (start, last) = spans(run.path)
    assert end == pytest.approx(stopped, abs=0.01 * count)
    assert start == pytest.approx(stopped + 3600.0, abs=0.01 * count + 1.0)
    assert last == run.now
    assert len(list(read_events(run.path / LOG_NAME))) == 2 * count + 2


def test_a_run_without_a_log_has_no_known_times(tmp_path: Path) -> None:
    assert spans(tmp_path) == []
    (tmp_path / LOG_NAME).write_text(json.dumps({"event": "x"}) + "\n")
    assert spans(tmp_path) == []
